"""Exact next-token probabilities from the embedded engine, without listing its whole vocabulary.

The method, described in llama.cpp's documentation of /completion, takes one completion, or two if the caller names
tokens. The first completion lists the likeliest tokens with their probabilities; the likeliest token that is text is the anchor.
The second completion adds the same bias to the candidates and the anchor, so that all of them are listed. An equal bias keeps the ratios of
the probabilities, so p = p(anchor) * q / q(anchor), where q is the probability in the second answer.

The module does no I/O: `find_probabilities` yields requests and receives the answers' bytes.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from providers.base import Probabilities, ProbabilitySteps, WireRequest

LIFT = 60.0
"""Bias of the candidates' logits. A bias of 60 makes them e^60 times as likely relative to all others, so they are listed first."""
MAX_DRAWS = 16
DEFAULT_TOP_K = 10
ANCHOR_CANDIDATES = 20
"""Number of tokens to choose the anchor from. The anchor must be text: for a part of a character, the engine lists nothing."""
MAX_LISTED_TOKENS = 1000
"""Maximum number of tokens that one call may list. Listing 1,000 takes the engine 47 ms."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def find_probabilities(messages: Sequence[dict[str, Any]], top_k: int | None, vocabulary: Sequence[str] | None) -> ProbabilitySteps:
    """Yield requests. Return the probabilities of the `top_k` likeliest next tokens, or `top_k` likeliest entries of `vocabulary`."""
    templated = _decode((yield _post("/apply-template", {"messages": list(messages)})))
    listed = yield from _likeliest(templated["prompt"], ANCHOR_CANDIDATES if vocabulary else min(top_k or DEFAULT_TOP_K, MAX_LISTED_TOKENS))
    if not vocabulary:
        likeliest: dict[str, float] = {}
        for token in listed:  # adds up the values of tokens with the same text, such as parts of characters
            likeliest[token["token"]] = likeliest.get(token["token"], 0.0) + math.exp(token["logprob"])
        return Probabilities(likeliest)
    ids: dict[str, int] = {}
    partial: list[str] = []
    for entry in dict.fromkeys(vocabulary):
        tokens = _decode((yield _post("/tokenize", {"content": entry, "add_special": False})))["tokens"]
        ids[entry] = tokens[0]
        if len(tokens) > 1:
            partial.append(entry)
    anchor = next((token for token in listed if token["token"].isascii() and token["token"].strip()), listed[0])
    probabilities = yield from _candidates(templated["prompt"], anchor, ids)
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])[: top_k or None]
    return Probabilities(dict(ranked), [entry for entry in partial if entry in dict(ranked)])


def _likeliest(prompt: str, count: int) -> Generator[WireRequest, bytes, list[dict[str, Any]]]:
    # Tokens are listed before sampling. If the engine drew a part of a character or the end of the turn, it would list
    # nothing, so the bias makes it draw a letter.
    drawn = {"samplers": ["temperature"], "temperature": 0.0, "ignore_eos": True, "logit_bias": [["a", 1000.0]]}
    body = {"prompt": prompt, "n_predict": 1, "n_probs": count, "cache_prompt": True, **drawn}
    answer = _decode((yield _post("/completion", body)))
    listed: list[dict[str, Any]] = answer["completion_probabilities"][0]["top_logprobs"]
    return listed


def _candidates(prompt: str, anchor: dict[str, Any], ids: dict[str, int]) -> Generator[WireRequest, bytes, dict[str, float]]:
    token_ids = sorted({anchor["id"], *ids.values()})
    body = {
        "prompt": prompt,
        "n_predict": 1,
        "n_probs": len(token_ids),
        "post_sampling_probs": True,
        "samplers": ["temperature"],
        "temperature": 1.0,
        "ignore_eos": True,
        "logit_bias": [[token, LIFT] for token in token_ids],
        "cache_prompt": True,
    }
    answer: dict[str, Any] = {}
    for seed in range(1, MAX_DRAWS + 1):  # the engine lists nothing if it draws a part of a character: repeat with another seed
        answer = _decode((yield _post("/completion", {**body, "seed": seed})))
        if "completion_probabilities" in answer:
            break
    lifted = {one["id"]: one["prob"] for one in answer["completion_probabilities"][0]["top_probs"]}
    scale = math.exp(anchor["logprob"]) / lifted[anchor["id"]]
    return {entry: lifted.get(token, 0.0) * scale for entry, token in ids.items()}


def _post(path: str, body: dict[str, Any]) -> WireRequest:
    return WireRequest(path, [("content-type", "application/json")], _encode(body))

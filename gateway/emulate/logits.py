"""Next-token probabilities on providers without an operation for them: one output token with its alternatives.

native     the provider has the operation (Goodfire): this module is not used
stepwise   the provider has its own exact method, which takes several requests (the embedded engine)
emulated   `logprobs` with `top_logprobs` of a chat completion of one token: only the tokens that the provider lists
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.errors import BadRequest, refuse
from providers.base import Adjustment, Body, Failure, Options, Provider, Refusal, StreamFailure, Target

DEFAULT_TOP_K = 10
MAX_TOP_K = 1000
MAX_VOCABULARY = 256
MAX_LISTED = 20
"""OpenAI's maximum of top_logprobs. If a provider's maximum is lower, its rules clamp the number."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class LogitsRequest(msgspec.Struct, frozen=True):
    """The probabilities that the caller requests."""

    top_k: int | None
    vocabulary: list[str] | None


def read_request(body: Body) -> LogitsRequest:
    """Return `top_k` and `filter_vocabulary`. Raise BadRequest if one of them is invalid or if the answer is to be streamed."""
    top_k, vocabulary = body.get("top_k"), body.get("filter_vocabulary")
    if top_k is not None and (type(top_k) is not int or not 1 <= top_k <= MAX_TOP_K):
        raise refuse("top_k", f"'top_k' must be an integer from 1 to {MAX_TOP_K}.")
    if vocabulary is not None:
        if type(vocabulary) is not list or not all(type(one) is str and one for one in vocabulary):
            raise refuse("filter_vocabulary", "'filter_vocabulary' must be a list of strings.", "invalid_type")
        if not 0 < len(vocabulary) <= MAX_VOCABULARY:
            raise refuse("filter_vocabulary", f"'filter_vocabulary' must have 1 to {MAX_VOCABULARY} entries.")
    if body.get("stream"):
        raise BadRequest("Token probabilities cannot be streamed: omit 'stream'.", param="stream", code="unsupported_parameter")
    return LogitsRequest(top_k, vocabulary)


def is_native(kind: Provider) -> bool:
    """Return whether the provider has the operation itself."""
    return "logits" in kind.operations


def to_chat(body: Body, asked: LogitsRequest) -> Body:
    """Return a chat request for an answer of one token with its alternatives."""
    kept = {name: body.get(name) for name in ("model", "messages", "user", "system_prompt") if name in body}
    listed = min(MAX_LISTED, max(asked.top_k or DEFAULT_TOP_K, MAX_LISTED if asked.vocabulary else 1))
    chat = {**kept, "max_tokens": 1, "logprobs": True, "top_logprobs": listed}
    return Body(_encode(chat))


def adapt(chat: Body, asked: LogitsRequest, target: Target, options: Options) -> list[Adjustment]:
    """Apply the provider's rules, and return the adjustments. Raise Refusal if the rules drop the probabilities.

    In strict mode, also raise Refusal if the caller requests more alternatives than can be listed.
    """
    exact = target.kind.probabilities is not None
    if not exact and asked.top_k is not None and asked.top_k > MAX_LISTED and options.strict:
        raise Refusal(f"'top_k' above {MAX_LISTED} is not supported by {target.name}.", "top_k")
    adjustments = target.kind.adapt(chat, target, options)
    if not exact and asked.top_k is not None and asked.top_k > MAX_LISTED:
        adjustments.append(Adjustment("top_k", "clamp", from_=asked.top_k, to=MAX_LISTED, why="the provider lists no more alternatives"))
    if any(one.param == "logprobs" and one.action == "drop" for one in adjustments):
        raise Refusal(f"{target.name} does not support token probabilities.", None, "unsupported_operation")
    return [one for one in adjustments if one.param not in ("max_tokens", "logprobs", "temperature", "repetition_penalty")]


def from_chat(answer: bytes, asked: LogitsRequest) -> tuple[bytes, list[Adjustment]]:
    """Return the JSON of the probabilities that an answer of one token lists, and a note on their source.

    Entries of the vocabulary that the answer does not list are returned as `unknown`. Raise StreamFailure if it lists no probabilities.
    """
    try:
        listed = _decode(answer)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {one["token"]: math.exp(one["logprob"]) for one in listed}
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        raise StreamFailure(Failure("bad_body", "the answer lists no token probabilities")) from None
    unknown: list[str] = []
    if asked.vocabulary:
        unknown = [token for token in dict.fromkeys(asked.vocabulary) if token not in found]
        found = {token: found[token] for token in dict.fromkeys(asked.vocabulary) if token in found}
    why = f"read from the {len(listed)} likeliest tokens of a one-token answer"
    return encode_answer(found, asked.top_k, emulated=True, unknown=unknown), [Adjustment("logits", "enforce_locally", why=why)]


def encode_answer(found: dict[str, float], top_k: int | None, *, emulated: bool = False, unknown: Sequence[str] = ()) -> bytes:
    """Return {"logits": {token: probability}}, most likely first, with `emulated` and `unknown` if they apply."""
    ranked = sorted(found.items(), key=lambda item: -item[1])[:top_k]
    answer: dict[str, Any] = {"logits": dict(ranked)}
    if emulated:
        answer |= {"emulated": True, "unknown": list(unknown)}
    return _encode(answer)


def first_token_notes(partial: Sequence[str], target: Target, *, strict: bool) -> list[Adjustment]:
    """Return a note on each entry of several tokens, of which only the first counts.

    In strict mode, raise Refusal if there is such an entry.
    """
    if partial and strict:
        raise Refusal(
            f"'filter_vocabulary' has entries of more than one token at {target.name}: {', '.join(map(repr, partial[:5]))}.",
            "filter_vocabulary",
            "invalid_value",
        )
    return [Adjustment("filter_vocabulary", "downgrade", from_=entry[:64], why="only its first token counts") for entry in partial]

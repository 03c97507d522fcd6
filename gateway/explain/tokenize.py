"""Converts a text or messages to tokens, and token ids to text, with the tokenizer of a model's first target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.attempts.count_prompt import detokenize, tokenize
from gateway.attempts.hook_points import begin_hooks, hook_request, hook_target
from gateway.call import Call
from gateway.dialects.tokenize import take_asked
from gateway.errors import unreadable
from gateway.explain.read import read_call
from gateway.explain.request import DryRun
from gateway.hooks.run import Pieces
from gateway.targets.candidate import Candidate
from providers.base import Body

Headers = Sequence[tuple[bytes, bytes]]


async def answer_tokenize(run: DryRun, call: Call, source: bytes, headers: Headers) -> dict[str, Any]:
    """Return an answer in vLLM's format, with further fields such as `exact`. `tokens` is null if the ids are unknown.

    Raise GatewayError if the request is invalid.
    """
    candidates, body = _read(run, call, source, headers)
    await hook_request(run.hooks, call)
    candidate = await hook_target(call, candidates)
    asked = take_asked(body)
    try:
        found = await tokenize(asked, body, candidate)
    except (ValueError, RecursionError) as error:
        raise unreadable(error) from None
    answer: dict[str, Any] = {"count": found.tokens, "max_model_len": found.window, "tokens": found.ids}
    if asked.wants_texts:
        answer["token_strs"] = found.texts
    return {**answer, "exact": found.exact, "tokenizer": found.tokenizer, "target": candidate.backend.target.name}


async def answer_detokenize(run: DryRun, call: Call, source: bytes, headers: Headers) -> dict[str, Any]:
    """Return the text of token ids: `prompt` for vLLM's clients, `text` for others.

    The text passes through the hooks like that of an answer. Raise GatewayError if the request is invalid or a hook refuses the text.
    """
    candidates, body = _read(run, call, source, headers)
    hooks = begin_hooks(run.hooks, call)
    candidate = await hook_target(call, candidates)
    text, tokenizer = await detokenize(body.get("tokens"), body, candidate)
    if hooks is not None and text:
        text = await hooks.piece("text", "text", text, is_last=True, pieces=Pieces())
    return {"prompt": text, "text": text, "tokenizer": tokenizer, "target": candidate.backend.target.name}


def _read(run: DryRun, call: Call, source: bytes, headers: Headers) -> tuple[Sequence[Candidate], Body]:
    """Read a request. Return the targets of the requested model, and the body."""
    model = read_call(call, source, headers, run.router, run.config, run.known)
    assert call.body is not None
    return run.router.all_candidates(model), call.body

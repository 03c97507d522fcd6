"""One answer from several upstream requests, each built from the previous answer.

The effect of a parameter that a provider lacks can be achieved with further requests (`Provider.chained`): a generator
yields bodies, receives answers and returns the combined answer. All I/O goes through `ask`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

import msgspec

from gateway.streams.chunks import OpeningChunk
from gateway.upstream.transport import Response
from providers.base import Body, Usage

ReadAnswer = tuple[bytes, Usage | None, tuple[str | None, ...]]
"""A JSON answer for the caller, its usage and its finish reasons."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

Ask = Callable[[Body], Awaitable[tuple[ReadAnswer, Response]]]


def mark_stopped(answer: bytes, stop: str) -> bytes:
    """Return an answer that names the stop string at which the gateway ended it, as Anthropic's answers do."""
    whole = _decode(answer)
    for choice in whole["choices"]:
        choice["stop_sequence"] = stop
    return _encode(whole)


async def run_chained(parts: Generator[Body, bytes, bytes], ask: Ask) -> tuple[ReadAnswer, Response]:
    """Send the requests of `parts` one after another. Return the combined answer and the last response.

    Output tokens are added up; the prompt is counted once, because the provider has it in its cache for the later requests.
    """
    body = next(parts)
    used: Usage | None = None
    first = True
    while True:
        (answered, usage, finished), response = await ask(body)
        if first:
            used, first = usage, False
        elif used is not None:
            used = None if usage is None else _longer(used, usage)
        try:
            body = parts.send(answered)
        except StopIteration as end:
            return (end.value, used, finished), response


def to_stream(answer: bytes, *, usage_asked: bool) -> tuple[bytes, OpeningChunk]:
    """Return a JSON answer as the events of a stream, without [DONE], and the identity of its first chunk."""
    whole = _decode(answer)
    choices, usage = whole.pop("choices"), whole.pop("usage", None)
    identity = {**whole, "object": "chat.completion.chunk"}
    chunks: list[dict[str, Any]] = []
    for choice in choices:
        said, finish = {"index": choice["index"]}, choice.get("finish_reason")
        delta = choice["message"]
        if delta.get("tool_calls"):
            delta = {**delta, "tool_calls": [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]}
        text = {**said, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
        chunks += [{**identity, "choices": [text]}, {**identity, "choices": [{**said, "delta": {}, "finish_reason": finish}]}]
    if usage_asked and usage is not None:
        chunks.append({**identity, "choices": [], "usage": usage})
    events = b"".join(b"data: " + _encode(chunk) + b"\n\n" for chunk in chunks)
    return events, OpeningChunk(whole.get("id"), whole.get("created"), whole.get("model"))


def _longer(first: Usage, more: Usage) -> Usage:
    tokens, reasoning = first.completion_tokens + more.completion_tokens, first.reasoning_tokens + more.reasoning_tokens
    return Usage(
        first.prompt_tokens,
        tokens,
        first.cached_tokens,
        reasoning,
        first.estimated or more.estimated,
        first.cache_write_tokens,
    )

"""One answer out of several upstream calls that build on each other, as a provider's generator of bodies says.

A provider without a parameter may know how to reach its meaning by asking twice (`Provider.chained`): bodies out, answers in, the whole at
the end. No I/O here but through `ask`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

import msgspec

from gateway.streams.chunks import OpeningChunk
from gateway.upstream.transport import Response
from providers.base import Body, Usage

ReadAnswer = tuple[bytes, Usage | None, tuple[str | None, ...]]
"""A JSON answer for the caller, what it used, and its finish reasons."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

Ask = Callable[[Body], Awaitable[tuple[ReadAnswer, Response]]]


async def run_chained(parts: Generator[Body, bytes, bytes], ask: Ask) -> tuple[ReadAnswer, Response]:
    """Carry out `parts`. Output tokens add up; the prompt is counted once, as what a later part repeats of it is cached."""
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
    """A JSON answer as the events of a stream (without [DONE]), for a caller who asked for one; and how the stream began."""
    whole = _decode(answer)
    choices, usage = whole.pop("choices"), whole.pop("usage", None)
    identity = {**whole, "object": "chat.completion.chunk"}
    chunks: list[dict[str, Any]] = []
    for choice in choices:
        said, finish = {"index": choice["index"]}, choice.get("finish_reason")
        text = {**said, "delta": choice["message"], "logprobs": choice.get("logprobs"), "finish_reason": None}
        chunks += [{**identity, "choices": [text]}, {**identity, "choices": [{**said, "delta": {}, "finish_reason": finish}]}]
    if usage_asked and usage is not None:
        chunks.append({**identity, "choices": [], "usage": usage})
    events = b"".join(b"data: " + _encode(chunk) + b"\n\n" for chunk in chunks)
    return events, OpeningChunk(whole.get("id"), whole.get("created"), whole.get("model"))


def _longer(first: Usage, more: Usage) -> Usage:
    tokens, reasoning = first.completion_tokens + more.completion_tokens, first.reasoning_tokens + more.reasoning_tokens
    return Usage(first.prompt_tokens, tokens, first.cached_tokens, reasoning, first.estimated or more.estimated)

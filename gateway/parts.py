"""One JSON answer out of several upstream calls that build on each other, as a provider's generator of bodies says.

A provider without a parameter may know how to reach its meaning by asking twice (`in_parts`): bodies out, answers in, the whole at
the end. No I/O here but through `ask`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator

from gateway.upstream.transport import Response
from providers.base import Body, Usage

Read = tuple[bytes, Usage | None, tuple[str | None, ...]]
"""A JSON answer for the caller, what it used, and its finish reasons."""

Ask = Callable[[Body], Awaitable[tuple[Read, Response]]]


async def ask_in_parts(parts: Generator[Body, bytes, bytes], ask: Ask) -> tuple[Read, Response]:
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


def _longer(first: Usage, more: Usage) -> Usage:
    tokens, reasoning = first.completion_tokens + more.completion_tokens, first.reasoning_tokens + more.reasoning_tokens
    return Usage(first.prompt_tokens, tokens, first.cached_tokens, reasoning, first.estimated or more.estimated)

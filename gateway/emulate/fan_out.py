"""`n` choices from a provider that returns one choice: several parallel upstream requests, whose answers are merged.

A failure of one request ends all requests. Before the first byte, the attempt fails; later, the failure becomes an error
event. Prompt tokens are added up, because the provider bills them for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeGuard, TypeVar

import msgspec

from providers.base import Body

T = TypeVar("T")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

MAX_PIECES_AHEAD = 4
"""Maximum number of pieces that are read ahead from a stream while the caller is slow or other streams have not begun."""


async def gather_all(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Return all results in order. The first failure cancels the other calls and is raised once they have ended."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        await _end(tasks)
        raise


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


Pump = Callable[[int, Callable[[bytes], Awaitable[None]]], Awaitable[None]]


async def interleave(count: int, pump: Pump) -> AsyncGenerator[tuple[int, bytes]]:
    """Yield each piece of `count` streams, with the number of its stream, as it arrives. Begin once each stream has a first piece.

    `pump(index, put)` reads one stream to its end. A failure of one stream ends all streams and is raised here. Closing the
    iterator also ends all streams.
    """
    queue: asyncio.Queue[tuple[int, bytes | BaseException | None]] = asyncio.Queue()
    room = [asyncio.Semaphore(MAX_PIECES_AHEAD) for _ in range(count)]

    async def run(at: int) -> None:
        async def put(piece: bytes) -> None:
            await room[at].acquire()
            queue.put_nowait((at, piece))

        outcome: BaseException | None = None
        try:
            await pump(at, put)
        except Exception as error:  # the reader raises the failure
            outcome = error
        queue.put_nowait((at, outcome))

    tasks = [asyncio.ensure_future(run(at)) for at in range(count)]
    began: set[int] = set()
    held: list[tuple[int, bytes]] = []
    left = count
    try:
        while left:
            at, piece = await queue.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                left -= 1
                continue
            began.add(at)
            held.append((at, piece))
            if len(began) == count:
                for one in held:
                    yield one
                    room[one[0]].release()
                held.clear()
    finally:
        with suppress(asyncio.CancelledError):
            await _end(tasks)


def merge_answers(answers: Sequence[bytes]) -> bytes:
    """Merge the choices of several chat completions, in order. The usage is their sum, or is left out unless each one reports it."""
    decoded = [_decode(answer) for answer in answers]
    whole = decoded[0]
    whole["choices"] = [{**choice, "index": at} for at, answer in enumerate(decoded) for choice in answer["choices"][:1]]
    return _encode(_with_all_usage(whole, decoded))


def last_with_all_usage(answers: Sequence[bytes]) -> bytes:
    """Return the last of several answers to one call. Its usage is the sum, or is left out unless each answer reports its own."""
    decoded = [_decode(answer) for answer in answers]
    return _encode(_with_all_usage(decoded[-1], decoded))


def _with_all_usage(whole: dict[str, Any], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    usages = [usage for answer in answers if has_counts(usage := answer.get("usage"))]
    if len(usages) == len(answers):
        return {**whole, "usage": sum_usage_objects(usages)}
    return {name: value for name, value in whole.items() if name != "usage"}  # the usage of one answer is less than is billed


def has_counts(usage: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a usage object reports the tokens of prompt and output. If it reports only their total, these are estimated."""
    return type(usage) is dict and usage.get("prompt_tokens") is not None and usage.get("completion_tokens") is not None


def sum_usage_objects(usages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up usage objects, including their details. A value that is not a number is taken from the first object that has it."""
    total: dict[str, Any] = dict(usages[0])
    for usage in usages[1:]:
        for name, value in usage.items():
            known = total.get(name)
            if isinstance(value, dict) and isinstance(known, dict):
                total[name] = sum_usage_objects([known, value])
            elif isinstance(value, (int, float)) and isinstance(known, (int, float)) and not isinstance(value, bool):
                total[name] = known + value
            elif known is None:
                total[name] = value
    return total


class MergedStream:
    """Merges the chunks of several streams with one choice each: one identity, an index per stream, usage held back."""

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {}
        """The identity of the first chunk, which all chunks repeat."""
        self.usages: dict[int, dict[str, Any]] = {}

    def rewrite(self, at: int, events: bytes) -> bytes:
        """Return the chunks to send for events of one stream."""
        out = []
        for event in events.split(b"\n\n"):
            if event:
                data = self._rewrite(at, Body(event[len(b"data: ") :]))
                if data is not None:
                    out.append(b"data: " + data + b"\n\n")
        return b"".join(out)

    def _rewrite(self, at: int, chunk: Body) -> bytes | None:
        if not self.identity:
            self.identity = {name: chunk.get(name) for name in ("id", "object", "created", "model") if name in chunk}
        for name, value in self.identity.items():
            chunk.set(name, value)
        if has_counts(usage := chunk.get("usage")):
            self.usages[at] = usage
        choices = chunk.get("choices")
        if not choices:
            return None
        chunk.set("choices", [{**choice, "index": at} for choice in choices[:1]])
        return chunk.encode()

    def usage_event(self, count: int) -> bytes:
        """Return the last chunk with the usage of all streams, or b"" unless each stream reported its usage."""
        if len(self.usages) < count:
            return b""
        chunk = {"object": "chat.completion.chunk", **self.identity, "choices": []}
        return b"data: " + _encode({**chunk, "usage": sum_usage_objects(list(self.usages.values()))}) + b"\n\n"

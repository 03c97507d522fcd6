"""Finishes reading an answer after its caller disconnected, for providers that bill the whole answer anyway.

Only the end of the answer shows its cost. The coroutine that serves the call also reads the rest of the answer, so that
the call is accounted for once, afterwards. The time, and the number of such answers per target, are limited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.upstream.transport import UpstreamError
from providers.base import StreamFailure

if TYPE_CHECKING:
    from gateway.response.upstream_exchange import UpstreamExchange

MAX_FINISH_S = 60.0
"""Maximum time for the rest of one answer."""
MAX_FINISHING = 100
"""Maximum number of answers of one target that are read without a caller at the same time."""

Result = TypeVar("Result")


def should_finish(exchange: UpstreamExchange) -> bool:
    """Return whether the caller disconnected from an answer that should be read to its end."""
    backend = exchange.backend
    return backend.finishes_reading and exchange.caller.disconnected and backend.finishing < MAX_FINISHING


async def finish_reading(exchange: UpstreamExchange, rest: Awaitable[Any]) -> None:
    """Read the rest of the answer, until a failure or a timeout at the latest."""
    backend = exchange.backend
    backend.finishing += 1
    try:
        with suppress(UpstreamError, StreamFailure, TimeoutError):
            async with asyncio.timeout(MAX_FINISH_S):
                await rest
    finally:
        backend.finishing -= 1


async def shield_from_disconnect(
    exchange: UpstreamExchange, work: Coroutine[Any, Any, Result], then: Callable[[Result], Awaitable[None]] | None = None
) -> Result:
    """Return the result of `work`.

    If the caller disconnects and `should_finish` returns True, finish `work` (within MAX_FINISH_S) and call `then` before the
    cancellation continues.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if should_finish(exchange):
            await finish_reading(exchange, _with(task, then))
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _with(task: asyncio.Future[Result], then: Callable[[Result], Awaitable[None]] | None) -> None:
    result = await task
    if then is not None:
        await then(result)

"""Answers that their provider bills whole are read to their end though the caller left: only the end tells what they cost.

It happens in the call's own coroutine, so that the call is accounted for once, afterwards; bounded in time, and in number by target.
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
"""Seconds for the rest of one answer."""
MAX_FINISHING = 100
"""Answers of one target that are read for nobody at the same time."""

Result = TypeVar("Result")


def should_finish(exchange: UpstreamExchange) -> bool:
    """Whether the caller left an answer that should be read on."""
    place = exchange.backend
    return place.finishes_reading and exchange.caller.disconnected and place.finishing < MAX_FINISHING


async def finish_reading(exchange: UpstreamExchange, rest: Awaitable[Any]) -> None:
    """Read the rest; what breaks it, or takes too long, ends it."""
    place = exchange.backend
    place.finishing += 1
    try:
        with suppress(UpstreamError, StreamFailure, TimeoutError):
            async with asyncio.timeout(MAX_FINISH_S):
                await rest
    finally:
        place.finishing -= 1


async def shield_from_disconnect(exchange: UpstreamExchange, work: Coroutine[Any, Any, Result], then: Callable[[Result], Awaitable[None]] | None = None) -> Result:
    """The result of `work`, which a caller who leaves does not end; with what is to be done `then` before the call ends after all."""
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

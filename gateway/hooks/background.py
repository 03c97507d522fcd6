"""Runs searches of large texts in threads, and ends them when no call waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of a function that runs in a thread.

    If the caller stops waiting, as at a deadline, the next `check_stop` in the function raises TimeoutError, because a thread
    cannot be cancelled.
    """
    stop = threading.Event()
    token = _stop.set(stop)
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    finally:
        _stop.reset(token)
        stop.set()


def check_stop() -> None:
    """Raise TimeoutError in a thread of `in_thread` whose result is no longer awaited."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise TimeoutError("no call waits for the search")

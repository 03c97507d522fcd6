"""Runs the commands of the cache with deadlines, and does not use the store for a while after a command that took too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from gateway.store.errors import StoreUnavailableError

PAUSE_AFTER_TIMEOUT_S = 5.0
"""Time for which the store is not used after a command that took too long, so that calls do not wait one by one."""
T = TypeVar("T")


class StoreGuard:
    """The use of the store by one process."""

    def __init__(self) -> None:
        self._paused_until = 0.0

    async def run(self, timeout_s: float, command: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of a command. Raise StoreUnavailableError if the command fails or takes too long, or during a pause."""
        if time.monotonic() < self._paused_until:
            raise StoreUnavailableError("a command took too long")
        try:
            async with asyncio.timeout(timeout_s):
                return await command()
        except TimeoutError:
            self._paused_until = time.monotonic() + PAUSE_AFTER_TIMEOUT_S
            raise StoreUnavailableError("the command took too long") from None

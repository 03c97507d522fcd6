"""One coarse timer over all open calls: callers who left, readers who stopped, and streams that fell silent.

A timer or a watching task per request would cost 5 to 16 us each (measured); a sweep costs a fraction of that, and a call that ends
within one tick is never looked at. Times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

TICK_S = 0.05


class Swept(Protocol):
    """Something with deadlines of its own."""

    def sweep(self, now: float) -> None:
        """Act on what is overdue at `now`; called every tick."""
        ...


class Sweeper:
    """The timer. It runs only while something is watched."""

    def __init__(self, *, tick: float = TICK_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._clock = clock
        self._swept: set[Swept] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lag = 0.0
        """How late the last tick was, in seconds: the event loop's lag."""

    def __len__(self) -> int:
        return len(self._swept)

    def add(self, item: Swept) -> None:
        """Watch from the next tick on."""
        self._swept.add(item)
        if self._timer is None:
            self._schedule()

    def discard(self, item: Swept) -> None:
        """Stop watching."""
        self._swept.discard(item)

    def _schedule(self) -> None:
        self._due = self._clock() + self._tick
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._run)

    def _run(self) -> None:
        now = self._clock()
        self.lag = max(0.0, now - self._due)
        for one in list(self._swept):
            one.sweep(now)
        if self._swept:
            self._schedule()
        else:
            self._timer = None

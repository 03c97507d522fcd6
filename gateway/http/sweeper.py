"""One coarse timer over all open calls: callers who left, readers who stopped, and streams that fell silent.

A timer or a watching task per request would cost 5 to 16 us each (measured); a sweep costs a fraction of that, and a call that ends
within one tick is never looked at. Times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

TICK = 0.05


class Watched(Protocol):
    """Something with deadlines of its own."""

    def sweep(self, now: float) -> None:
        """Act on what is overdue at `now`; called every tick."""
        ...


class Watch:
    """The timer. It runs only while something is watched."""

    def __init__(self, *, tick: float = TICK, clock: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._clock = clock
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lag = 0.0
        """How late the last tick was, in seconds: the event loop's lag."""

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, one: Watched) -> None:
        """Watch from the next tick on."""
        self._watched.add(one)
        if self._timer is None:
            self._schedule()

    def discard(self, one: Watched) -> None:
        """Stop watching."""
        self._watched.discard(one)

    def _schedule(self) -> None:
        self._due = self._clock() + self._tick
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._run)

    def _run(self) -> None:
        now = self._clock()
        self.lag = max(0.0, now - self._due)
        for one in list(self._watched):
            one.sweep(now)
        if self._watched:
            self._schedule()
        else:
            self._timer = None

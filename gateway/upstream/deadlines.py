"""Deadlines of upstream attempts, checked by one coarse timer per event loop instead of one timer per deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from gateway.upstream.transport import Deadlines

T = TypeVar("T")
Clock = Callable[[], float]

MAX_TICK_S = 0.05
MIN_TICK_S = 0.002
TICKS_PER_DEADLINE = 20
"""A tick is the shortest deadline divided by this, within the limits above: deadlines of 40 ms or more fire at most 5 % late."""


class HasDeadline(Protocol):
    """An object with a deadline on the ticker's clock."""

    deadline: float

    def expire(self, now: float) -> None:
        """Handle the expiry of the deadline."""
        ...


class Ticker:
    """Checks all deadlines once per tick while there are any. No deadline has a timer of its own."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tick_s = MAX_TICK_S
        self._watched: set[HasDeadline] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._tuned: Deadlines | None = None

    def tune(self, deadlines: Deadlines) -> None:
        """Shorten the tick if the shortest of `deadlines` requires it."""
        if deadlines is self._tuned:
            return
        self._tuned = deadlines
        shortest = min(deadlines.connect, deadlines.tls, deadlines.first_byte, deadlines.idle, deadlines.total)
        tick = max(MIN_TICK_S, shortest / TICKS_PER_DEADLINE)
        if tick < self.tick_s:
            self.tick_s = tick
            self.stop()
            if self._watched:
                self._arm()

    def watch(self, entry: HasDeadline) -> None:
        """Call `entry.expire` at every tick from its deadline on, until the entry moves its deadline or is forgotten."""
        self._watched.add(entry)
        if self._handle is None:
            self._arm()

    def forget(self, entry: HasDeadline) -> None:
        """Stop watching `entry`. Idempotent."""
        self._watched.discard(entry)

    def stop(self) -> None:
        """Stop the timer. The next call of `watch` starts it again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(self.tick_s, self._check)

    def _check(self) -> None:
        self._handle = None
        now = self.clock()
        for entry in [entry for entry in self._watched if entry.deadline <= now]:
            if entry in self._watched:
                entry.expire(now)
        if self._watched and self._handle is None:
            self._arm()


class _Alarm:
    """Cancels a task when its deadline passes."""

    def __init__(self, deadline: float, task: asyncio.Task[Any]) -> None:
        self.deadline = deadline
        self.task = task
        self.expired = False

    def expire(self, now: float) -> None:
        self.deadline = float("inf")
        self.expired = True
        self.task.cancel()


async def finish_before(ticker: Ticker, deadline: float, work: Coroutine[Any, Any, T], discard: Callable[[T], None] | None = None) -> T:
    """Return the result of `work`. Raise TimeoutError once `deadline`, a time on the ticker's clock, has passed.

    This function starts a task, so use it for rare steps only. `discard` is called with a result that arrives together with a
    cancellation, so that no opened resource is lost.
    """
    task = asyncio.ensure_future(work)
    alarm = _Alarm(deadline, task)
    ticker.watch(alarm)
    try:
        return await task
    except asyncio.CancelledError:
        if discard is not None and task.done() and not task.cancelled() and task.exception() is None:
            discard(task.result())
        current = asyncio.current_task()
        if alarm.expired and not (current and current.cancelling()):
            raise TimeoutError from None
        raise
    finally:
        ticker.forget(alarm)

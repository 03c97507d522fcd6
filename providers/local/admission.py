"""Admission to the embedded engine: limits the calls that run or wait in its queue."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Lease:
    """One admitted call. Call `release` when the call ends; a second release has no effect."""

    __slots__ = ("_gate", "_since")

    def __init__(self, gate: Gate, since: float) -> None:
        self._gate: Gate | None = gate
        self._since = since

    def release(self) -> None:
        """Free the place of the call."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            gate.give_back(self._since)


class Gate:
    """Counts the admitted calls and limits their number. Its methods never wait."""

    def __init__(self, slots: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self.capacity = slots + queue
        self.used = 0
        self._clock = clock
        self._typical = 1.0

    @property
    def running(self) -> int:
        """Number of calls with a slot."""
        return min(self.used, self.slots)

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a slot."""
        return max(0, self.used - self.slots)

    def acquire(self) -> Lease | None:
        """Admit a call and return its lease, or None if the engine and its queue are full."""
        if self.used >= self.capacity:
            return None
        self.used += 1
        return Lease(self, self._clock())

    def give_back(self, since: float) -> None:
        """Free a place. The time since `since` updates the estimate for `retry_after`."""
        self.used -= 1
        self._typical += 0.2 * (self._clock() - since - self._typical)

    def retry_after(self) -> float:
        """Return the number of seconds until a place is likely to be free: a whole number from 1 to 60."""
        return float(min(60, max(1, math.ceil(self._typical / self.slots))))

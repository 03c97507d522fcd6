"""How many calls the engine takes on: those that run and those that wait, no more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Lease:
    """One call's place at the engine. Give it back exactly once; twice does no harm."""

    __slots__ = ("_gate", "_since")

    def __init__(self, gate: Gate, since: float) -> None:
        self._gate: Gate | None = gate
        self._since = since

    def release(self) -> None:
        """The call is over, however it ended."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            gate.give_back(self._since)


class Gate:
    """Counts places; never waits."""

    def __init__(self, slots: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self.capacity = slots + queue
        self.used = 0
        self._clock = clock
        self._typical = 1.0

    @property
    def running(self) -> int:
        """Calls that have a slot."""
        return min(self.used, self.slots)

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return max(0, self.used - self.slots)

    def acquire(self) -> Lease | None:
        """A place, or None when all are taken."""
        if self.used >= self.capacity:
            return None
        self.used += 1
        return Lease(self, self._clock())

    def give_back(self, since: float) -> None:
        """A place is free again; how long it was held tells what to expect."""
        self.used -= 1
        self._typical += 0.2 * (self._clock() - since - self._typical)

    def retry_after(self) -> float:
        """Whole seconds until a place is likely to be free."""
        return float(min(60, max(1, math.ceil(self._typical / self.slots))))

"""How many sends may follow a failure: a share of the calls, so that retries never multiply the load on upstreams that are down.

A send to another target that answered is given back: it was no load on who is down.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.2
FLOOR = 10.0
"""Sends that are there at first and come back by themselves, as a loan that later calls pay back: a lone call can always go on."""
FLOOR_PER_SECOND = 1.0
MOST = 100.0


class RetryBudget:
    """A bucket of tokens: every call brings `share` of one, every retry or fallback takes one."""

    def __init__(self, share: float = SHARE, floor: float = FLOOR, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        """Sends after a failure that one call pays for."""
        self._floor = floor
        self._tokens = floor
        self._debt = floor
        self._clock = clock
        self._at = clock()

    def earn(self) -> None:
        """One more call."""
        share = self.share
        if self._debt > 0.0:
            self._debt -= share
            if self._debt >= 0.0:
                return
            share, self._debt = -self._debt, 0.0
        if self._tokens < MOST:
            self._tokens += share

    def take(self) -> bool:
        """Pay for one more send, if that is possible."""
        now = self._clock()
        if self._tokens < self._floor:
            lent = min(self._floor - self._tokens, (now - self._at) * FLOOR_PER_SECOND)
            self._tokens += lent
            self._debt = min(MOST, self._debt + lent)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """What was paid for was not sent."""
        self._tokens += 1.0

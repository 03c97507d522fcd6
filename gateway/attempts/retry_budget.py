"""Limits retries and fallbacks to a share of all calls, so that they never multiply the load on upstreams that are down.

A token for a fallback to a working target is given back, because the fallback put no load on the failed target.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.2
FLOOR = 10.0
"""Tokens at the start.

If fewer are left, tokens are lent at FLOOR_PER_SECOND up to this number, so that a gateway with few calls can still
retry. The shares that calls earn first repay the lent tokens and only then add new ones.
"""
FLOOR_PER_SECOND = 1.0
MOST = 100.0


class RetryBudget:
    """A token bucket: every call adds the fraction `share` of a token, and every retry or fallback takes one token."""

    def __init__(self, share: float = SHARE, floor: float = FLOOR, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        """Retries or fallbacks that one call earns."""
        self._floor = floor
        self._tokens = floor
        self._debt = floor
        self._clock = clock
        self._at = clock()

    def earn(self) -> None:
        """Count one more call."""
        share = self.share
        if self._debt > 0.0:
            self._debt -= share
            if self._debt >= 0.0:
                return
            share, self._debt = -self._debt, 0.0
        if self._tokens < MOST:
            self._tokens += share

    def take(self, *, overdraw: bool = False) -> bool:
        """Take a token for one more request. Return False if the budget is exhausted.

        With `overdraw`, up to MOST tokens more than the budget has may be taken, which is then repaid before the next retry.
        """
        now = self._clock()
        if self._tokens < self._floor:
            lent = min(self._floor - self._tokens, (now - self._at) * FLOOR_PER_SECOND)
            self._tokens += lent
            self._debt = min(MOST, self._debt + lent)
        self._at = now
        if self._tokens < (1.0 - MOST if overdraw else 1.0):
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """Give back a token whose request was not sent or put no load on the failed target."""
        self._tokens += 1.0

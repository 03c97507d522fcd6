"""How a target has been doing lately: calls under way, a decaying average of time to first token, and how that time spreads.

Streams and whole answers are kept apart: the first token of the one comes long before the first byte of the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MEMORY = 10.0
"""Seconds after which an observation counts for a third (1/e) against a new one."""
FORGETTING = 60.0
"""Seconds without news after which an average has sunk to a third: a slow target is tried again some day."""
STEPS_PER_OCTAVE = 4
"""Buckets of the spread for each doubling of time: a quantile is at most 19 % too long."""
SHORTEST = 0.001
BUCKETS = 20 * STEPS_PER_OCTAVE
"""From 1 ms to 1,000 s."""
ENOUGH = 20.0
"""Observations before a quantile means anything."""
MOST = 1000.0
"""Observations after which older ones begin to count less."""


class LatencyHistogram:
    """A histogram of times that forgets: when it holds MOST observations, all counts are halved."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0.0] * BUCKETS
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """One more observation."""
        at = math.ceil(math.log2(max(seconds, SHORTEST) / SHORTEST) * STEPS_PER_OCTAVE)
        self._counts[min(at, BUCKETS - 1)] += 1
        self.total += 1
        if self.total > MOST:
            self._counts = [count / 2 for count in self._counts]
            self.total /= 2

    def quantile(self, share: float) -> float | None:
        """Seconds within which `share` of all came, rounded up to a bucket's edge; None while too few have been seen."""
        if self.total < ENOUGH:
            return None
        left = share * self.total
        for at, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return SHORTEST * math.exp2(at / STEPS_PER_OCTAVE)
        return SHORTEST * math.exp2(BUCKETS / STEPS_PER_OCTAVE)


class Latency:
    """One target's pace, whatever model leads to it. Updated by the attempts, read by balance and hedges."""

    __slots__ = ("_averages", "_clock", "_spreads", "in_flight")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._averages: list[tuple[float, float] | None] = [None, None]
        self._spreads: list[LatencyHistogram] | None = None
        self.in_flight = 0
        """Attempts under way."""

    def keep_quantiles(self) -> None:
        """Somebody hedges here: keep quantiles too."""
        if self._spreads is None:
            self._spreads = [LatencyHistogram(), LatencyHistogram()]

    def record(self, seconds: float, *, stream: bool) -> None:
        """An answer began after `seconds`: a stream's first event, or a whole answer."""
        now = self._clock()
        before = self._averages[stream]
        if before is not None:
            share = math.exp((before[1] - now) / MEMORY)
            seconds_now = before[0] * share + seconds * (1 - share) if share < 1 else (before[0] + seconds) / 2
        else:
            seconds_now = seconds
        self._averages[stream] = (seconds_now, now)
        if self._spreads is not None:
            self._spreads[stream].record(seconds)

    def record_timeout(self, seconds: float, *, stream: bool) -> None:
        """No answer had begun after `seconds`: news only if that is longer than it takes as a rule."""
        before = self._averages[stream]
        if before is not None and seconds > before[0]:
            self.record(seconds, stream=stream)

    def expected(self, *, stream: bool) -> float:
        """The average time to a first token in seconds, sinking while there is no news; 0 when nothing is known."""
        found = self._averages[stream] or self._averages[not stream]
        return 0.0 if found is None else found[0] * math.exp(min(0.0, found[1] - self._clock()) / FORGETTING)

    def expected_wait(self, *, stream: bool) -> float:
        """What one more call has to expect, in seconds. A target of which nothing is known is tried at once, but by one call alone."""
        expected = self.expected(stream=stream)
        return expected * (1 + self.in_flight) if expected or not self.in_flight else float("inf")

    def quantile(self, share: float, *, stream: bool) -> float | None:
        """Seconds within which `share` of the answers began; None while that is not known."""
        return None if self._spreads is None else self._spreads[stream].quantile(share)

"""Latency and load of one target: attempts in flight, requests of others, average and quantiles of the time to first token.

Streams and whole answers are recorded separately, because a stream's first token comes long before a whole answer
is complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

AVERAGE_DECAY_S = 10.0
"""Time after which an observation has 37 % (1/e) of the weight of a new one."""
IDLE_DECAY_S = 60.0
"""Time without observations after which an average has dropped to 37 % (1/e), so that a slow target is tried again."""
BUCKETS_PER_OCTAVE = 4
"""Buckets of the histogram for each doubling of time. A quantile is at most 19 % too high."""
SHORTEST_S = 0.001
BUCKETS = 20 * BUCKETS_PER_OCTAVE
"""Number of buckets, which reach from 1 ms to about 1,000 s."""
MIN_OBSERVATIONS = 20.0
"""Minimum number of observations for a quantile."""
MAX_OBSERVATIONS = 1000.0
"""Number of observations at which older ones begin to count less."""


class LatencyHistogram:
    """A histogram of times in which old observations fade: all counts are halved whenever their sum exceeds MAX_OBSERVATIONS."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0.0] * BUCKETS
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Add one observation."""
        bucket = math.ceil(math.log2(max(seconds, SHORTEST_S) / SHORTEST_S) * BUCKETS_PER_OCTAVE)
        self._counts[min(bucket, BUCKETS - 1)] += 1
        self.total += 1
        if self.total > MAX_OBSERVATIONS:
            self._counts = [count / 2 for count in self._counts]
            self.total /= 2

    def quantile(self, share: float) -> float | None:
        """Return a time that `share` of the observations do not exceed, rounded up. Return None if there are too few observations."""
        if self.total < MIN_OBSERVATIONS:
            return None
        rest = share * self.total
        for bucket, count in enumerate(self._counts):
            rest -= count
            if rest <= 0:
                return SHORTEST_S * math.exp2(bucket / BUCKETS_PER_OCTAVE)
        return SHORTEST_S * math.exp2(BUCKETS / BUCKETS_PER_OCTAVE)


class Latency:
    """Latency of one target, for all models that lead to it. Attempts record it; balancing and hedges read it."""

    __slots__ = ("_averages", "_clock", "_histograms", "_others", "_others_until", "in_flight")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._averages: list[tuple[float, float] | None] = [None, None]
        self._histograms: list[LatencyHistogram] | None = None
        self.in_flight = 0
        """Attempts in flight."""
        self._others = 0
        self._others_until = 0.0

    @property
    def others(self) -> int | None:
        """Requests of other processes at the server, or None if no current report exists."""
        return self._others if self._clock() < self._others_until else None

    def report_others(self, count: int, valid_s: float) -> None:
        """Record that other processes have `count` requests at the server. The report is current for `valid_s` seconds."""
        self._others, self._others_until = count, self._clock() + valid_s

    def keep_quantiles(self) -> None:
        """Record quantiles as well, for hedges at a percentile."""
        if self._histograms is None:
            self._histograms = [LatencyHistogram(), LatencyHistogram()]

    def record_attempt(self, sent_at: float, first_byte_at: float, *, stream: bool) -> None:
        """Record the time until the response to the caller began, or the time that the attempt has waited if no response began."""
        if first_byte_at >= sent_at:
            self.record(first_byte_at - sent_at, stream=stream)
        else:
            self.record_timeout(self._clock() - sent_at, stream=stream)

    def record(self, seconds: float, *, stream: bool) -> None:
        """Record the time to a stream's first event, or to a whole answer."""
        now = self._clock()
        last = self._averages[stream]
        if last is not None:
            weight = math.exp((last[1] - now) / AVERAGE_DECAY_S)
            average = last[0] * weight + seconds * (1 - weight) if weight < 1 else (last[0] + seconds) / 2
        else:
            average = seconds
        self._averages[stream] = (average, now)
        if self._histograms is not None:
            self._histograms[stream].record(seconds)

    def record_timeout(self, seconds: float, *, stream: bool) -> None:
        """Record that no answer had begun after `seconds`, if that is more than the average.

        A shorter time does not show that the target is slow.
        """
        last = self._averages[stream]
        if last is not None and seconds > last[0]:
            self.record(seconds, stream=stream)

    def expected(self, *, stream: bool) -> float:
        """Return the average time to first token, decayed by the time without observations. Return 0 if it is unknown.

        If only the other kind of answer (a stream or a whole answer) has an average, return that one.
        """
        last = self._averages[stream] or self._averages[not stream]
        return 0.0 if last is None else last[0] * math.exp(min(0.0, last[1] - self._clock()) / IDLE_DECAY_S)

    def expected_wait(self, *, stream: bool) -> float:
        """Return the expected time to first token of one more call.

        For a target without observations, return 0 while no attempt is in flight, else infinity, so that one call at a
        time is sent to it.
        """
        expected = self.expected(stream=stream)
        return expected * (1 + self.in_flight) if expected or not self.in_flight else float("inf")

    def quantile(self, share: float, *, stream: bool) -> float | None:
        """Return the time within which `share` of the answers began, or None if it is unknown."""
        return None if self._histograms is None else self._histograms[stream].quantile(share)

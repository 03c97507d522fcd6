"""Judges whether a target has been silent for too long, from the times until its earlier answers began.

Nothing is measured while a call waits: the judgement is made when its caller disconnects, or when the caller's own
deadline ends.
"""

from __future__ import annotations

import math
from collections import deque

MAX_TIMES = 256
"""Maximum number of answers, the latest ones, whose times are kept."""
SHARE = 0.99
"""The quantile of these times that counts as the usual longest time; of fewer than a hundred times, it is the longest."""
FACTOR = 4.0
"""A target counts as slow after a silence of this many times its usual longest time."""
MIN_SILENCE_S = 2.0
"""A shorter silence never counts against a target, whatever its usual times are."""
UNKNOWN_SILENCE_S = 30.0
"""The silence that counts against a target without earlier answers."""


class Silence:
    """The times until the answers of one target began, separately for streams and whole answers."""

    __slots__ = ("_of_probes", "_times")

    def __init__(self) -> None:
        self._times: tuple[deque[float], deque[float]] = (deque(maxlen=MAX_TIMES), deque(maxlen=MAX_TIMES))
        self._of_probes = 0.0
        """Seconds for which callers of probes in a row waited without an answer."""

    def record(self, seconds: float, *, stream: bool) -> None:
        """Record the time until an answer began."""
        self._times[stream].append(seconds)
        self._of_probes = 0.0

    def patience(self, *, stream: bool) -> float:
        """Return the seconds of silence after which the target counts as slow."""
        times = sorted(self._times[stream])
        if not times:
            return UNKNOWN_SILENCE_S
        return max(MIN_SILENCE_S, FACTOR * times[math.ceil(SHARE * len(times)) - 1])

    def is_too_long(self, seconds: float, *, stream: bool, probe: bool) -> bool:
        """Return whether a silence counts against the target. The silences of probes in a row add up."""
        if probe:
            self._of_probes += seconds
            seconds = self._of_probes
        if seconds <= self.patience(stream=stream):
            return False
        self._of_probes = 0.0
        return True

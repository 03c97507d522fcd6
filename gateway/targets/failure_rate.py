"""The failure rate of a target over a window of time. It detects targets that fail often but never many times in a row."""

from __future__ import annotations

WINDOW_S = 30.0
"""Length of the window. At least the calls of its second half are counted."""
MIN_CALLS = 20
"""Minimum number of calls for which a rate is computed."""


class FailureRate:
    """Calls and failures in the current half of the window and in the previous half."""

    __slots__ = ("_began", "_calls", "_failures", "_previous")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Discard all counts."""
        self._began = 0.0
        self._calls = self._failures = 0
        self._previous = (0, 0)

    def count(self, now: float, failed: int) -> None:
        """Count one call, at a time on the process's clock. `failed` is 1 or 0."""
        passed = now - self._began
        if passed > WINDOW_S / 2:
            self._previous = (self._calls, self._failures) if passed <= WINDOW_S else (0, 0)
            self._calls = self._failures = 0
            self._began = now
        self._calls += 1
        self._failures += failed

    def reaches(self, rate: float) -> bool:
        """Return whether enough calls were made and at least this share of them failed.

        For a rate of 1, return False: a target that always fails is detected by its failures in a row.
        """
        if rate >= 1.0:
            return False
        calls, failures = self._previous
        calls += self._calls
        return calls >= MIN_CALLS and failures + self._failures >= rate * calls

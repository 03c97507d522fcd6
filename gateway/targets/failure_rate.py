"""Which share of a target's calls failed lately: some that never fail in a row fail all the same."""

from __future__ import annotations

WINDOW = 30.0
"""Seconds that are looked back at, at least half of them."""
FEWEST = 20
"""Calls that say something about a share."""


class FailureRate:
    """Calls and failures of this half of the window and of the half before it."""

    __slots__ = ("_before", "_began", "_calls", "_failures")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._began = 0.0
        self._calls = self._failures = 0
        self._before = (0, 0)

    def count(self, at: float, failed: int) -> None:
        """One call, at a moment on the process's clock; `failed` is 1 for one that failed, else 0."""
        passed = at - self._began
        if passed > WINDOW / 2:
            self._before = (self._calls, self._failures) if passed <= WINDOW else (0, 0)
            self._calls = self._failures = 0
            self._began = at
        self._calls += 1
        self._failures += failed

    def reaches(self, share: float) -> bool:
        """Whether so large a share of enough calls failed; never for 1: who fails always does so in a row."""
        if share >= 1.0:
            return False
        calls, failures = self._before
        calls += self._calls
        return calls >= FEWEST and failures + self._failures >= share * calls

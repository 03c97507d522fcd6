"""Measures by how much a slow caller delays an answer, which is read from the upstream only as fast as the caller reads it."""

from __future__ import annotations

import time
from collections.abc import Callable


class CallerDelay:
    """The times for which the pieces of one answer are delivered, and those for which the upstream is awaited between them."""

    __slots__ = ("_awaited_s", "_clock", "_delivered_s", "_is_delivering", "_since")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._delivered_s = self._awaited_s = 0.0
        self._is_delivering = False
        self._since: float | None = None
        """The beginning of the current delivery or wait, or None before the first piece."""

    def begin_read(self) -> None:
        """Record that all pieces have been delivered, and that the next one is awaited."""
        if self._since is not None:
            now = self._clock()
            self._delivered_s += now - self._since
            self._since, self._is_delivering = now, False

    def end_read(self) -> None:
        """Record that a piece has arrived."""
        now = self._clock()
        if self._since is not None:
            self._awaited_s += now - self._since
        self._since, self._is_delivering = now, True

    @property
    def seconds(self) -> float:
        """The delivery time of all pieces if it exceeds the time for which the upstream is awaited, else that of the current piece."""
        current = self._clock() - self._since if self._is_delivering and self._since is not None else 0.0
        total = self._delivered_s + current
        return total if total > self._awaited_s else current

"""One line when the store goes and one when it is back, however many in this process use it.

The link of the limits tells of outages. What others cannot do (keys made at run time, cooldowns) is said only when the link is fine for
long enough: then it is a trouble of its own, rights that are missing for example.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

OutageReporter = Callable[[str, bool], None]
"""Takes a line, and whether it tells of a trouble or of its end."""


class OutageLog:
    """What cannot be done with the store, by who cannot do it."""

    def __init__(self, report: Callable[[str], None], outage: Callable[[], bool] = lambda: False, patience: float = 0.0) -> None:
        """`report` gets the lines; `outage` says whether the link has told of one; `patience` is the seconds that it may take to do so."""
        self._report = report
        self._outage = outage
        self._patience = patience
        self._untold: dict[str, str] = {}
        self._told: set[str] = set()
        self._waiting: asyncio.TimerHandle | None = None

    def for_subject(self, subject: str) -> OutageReporter:
        """For one who uses the store, to tell of each change."""
        return partial(self._hear, subject)

    def stop(self) -> None:
        """Say nothing any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _hear(self, subject: str, line: str, trouble: bool) -> None:
        if not trouble:
            self._untold.pop(subject, None)
            if subject in self._told:
                self._told.discard(subject)
                self._report(line)
        elif subject not in self._told:
            self._untold[subject] = line
            if not self._patience:
                self._look()
            elif self._waiting is None:
                self._wait()

    def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().call_later(self._patience, self._look)

    def _look(self) -> None:
        """Tell what is no part of an outage; during one, look again later."""
        self._waiting = None
        if not self._untold:
            return
        if self._outage():
            self._wait()
            return
        untold, self._untold = self._untold, {}
        for subject, line in untold.items():
            self._told.add(subject)
            self._report(line)

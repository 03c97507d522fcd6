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

    def __init__(self, report: Callable[[str], None], in_outage: Callable[[], bool] = lambda: False, delay_s: float = 0.0) -> None:
        """`report` gets the lines; `outage` says whether the link has told of one; `patience` is the seconds that it may take to do so."""
        self._report = report
        self._in_outage = in_outage
        self._delay_s = delay_s
        self._pending: dict[str, str] = {}
        self._reported: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def for_subject(self, subject: str) -> OutageReporter:
        """For one who uses the store, to tell of each change."""
        return partial(self._on_change, subject)

    def stop(self) -> None:
        """Say nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_change(self, subject: str, line: str, trouble: bool) -> None:
        if not trouble:
            self._pending.pop(subject, None)
            if subject in self._reported:
                self._reported.discard(subject)
                self._report(line)
        elif subject not in self._reported:
            self._pending[subject] = line
            if not self._delay_s:
                self._report_pending()
            elif self._timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._report_pending)

    def _report_pending(self) -> None:
        """Tell what is no part of an outage; during one, look again later."""
        self._timer = None
        if not self._pending:
            return
        if self._in_outage():
            self._start_timer()
            return
        untold, self._pending = self._pending, {}
        for subject, line in untold.items():
            self._reported.add(subject)
            self._report(line)

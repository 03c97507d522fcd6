"""Logs when a subsystem of this process can no longer use the store, and when it can use the store again.

RedisConnections reports outages. Failures of other subsystems (run-time keys, cooldowns) are reported only if there is
no outage: they then have a cause of their own, such as missing permissions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

OutageReporter = Callable[[str, bool], None]
"""Takes a log line, and whether it reports a failure (True) or its end (False)."""


class OutageLog:
    """Failures of the store by subsystem."""

    def __init__(self, report: Callable[[str], None], in_outage: Callable[[], bool] = lambda: False, delay_s: float = 0.0) -> None:
        """Create a log that passes its lines to `report`.

        `in_outage` returns whether there is an outage. Failures are held for `delay_s`, so that an outage can be detected first.
        """
        self._report = report
        self._in_outage = in_outage
        self._delay_s = delay_s
        self._pending: dict[str, str] = {}
        self._reported: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def for_subject(self, subject: str) -> OutageReporter:
        """Return the reporter of one subsystem."""
        return partial(self._on_change, subject)

    def stop(self) -> None:
        """Discard pending failures."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_change(self, subject: str, line: str, is_failure: bool) -> None:
        if not is_failure:
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
        """Report pending failures. During an outage, only start the timer again."""
        self._timer = None
        if not self._pending:
            return
        if self._in_outage():
            self._start_timer()
            return
        pending, self._pending = self._pending, {}
        for subject, line in pending.items():
            self._reported.add(subject)
            self._report(line)

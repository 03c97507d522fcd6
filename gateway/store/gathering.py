"""After a loss of data, a process waits until the other processes have charged their usage again.

All processes wait until the same moment. A process that had nothing in the store when it lost data again does not notice that loss,
so at the end of its wait each process asks the store whether another one has noticed a later loss, and then waits on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.store.limit import US_PER_S
from gateway.store.members import RunScript
from gateway.store.replay_scripts import TIME_LEFT
from gateway.store.runs import GATHER_S, LIMIT_TAGS, lost_key

REPORT_S = 0.1
"""Each process sends its usage of an outage this long before Redis decides again, so that the decisions count the usage of all."""


class Gathering:
    """The wait of one process."""

    def __init__(self, run: RunScript, report: Callable[[], None], end: Callable[[], None]) -> None:
        """Create a wait that has not begun. `report` is called shortly before its end, and `end` at its end."""
        self._run = run
        self._report = report
        self._end = end
        self._timer: asyncio.TimerHandle | None = None
        self._check_number = 0
        """Number of the latest check. Replies to an earlier one, or to a cancelled one, are ignored."""
        self._left: list[int] = []
        self.is_pending = False
        """Whether a wait has begun and not ended. A cancelled wait stays pending: the next connection must begin it again."""

    def begin(self, until: float) -> None:
        """Wait until this time of the event loop, or longer if a process has noticed a later loss."""
        self.cancel()
        self.is_pending = True
        self._timer = asyncio.get_running_loop().call_at(until - REPORT_S, self._on_report_due, until)

    def cancel(self) -> None:
        """Stop waiting, because the store cannot be asked."""
        self._check_number += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_report_due(self, until: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(until, self._check)
        self._report()

    def _check(self) -> None:
        """Ask for how long the processes wait. If that fails, the connection has ended, and the next one begins the wait again."""
        self._timer, self._left = None, []
        on_reply = partial(self._on_time_left, self._check_number)
        for tag in LIMIT_TAGS:
            self._run(TIME_LEFT, [lost_key(tag)], [int(GATHER_S * US_PER_S)], on_reply)

    def _on_time_left(self, check_number: int, reply: Any) -> None:
        if check_number != self._check_number or isinstance(reply, Exception):
            return
        self._left.append(reply)
        if len(self._left) < len(LIMIT_TAGS):
            return
        if left := max(self._left):
            self.begin(asyncio.get_running_loop().time() + left / US_PER_S)
            return
        self.is_pending = False
        self._end()

"""The ledger of one process: books each call once, at its end, under the UTC day on which it began."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import accounting
from gateway.ledger.counters import KEPT_DAYS, UsageCounters, UsageCounts, UsageRow
from gateway.ledger.journal import Journal
from gateway.ledger.records import CallProgress
from gateway.store.limit import US_PER_S
from gateway.store.memory import steady_now
from gateway.store.settled_spend import SettledSpend
from gateway.store.window_usage import WindowUsage
from providers.base import Target, Usage

if TYPE_CHECKING:
    from gateway.call import Attempt, Call

PROGRESS_INTERVAL_S = 1.0
"""Interval at which the usage of streams in flight is journaled. A crash loses their usage since the last write."""
_DAY_US = 86_400 * US_PER_S
_EPOCH = date(1970, 1, 1)
_new_tuple = tuple.__new__
"""Makes a named tuple without the Python function `__new__` of its class, because every call needs two named tuples."""


class Ledger:
    """Counters, budgets and journal of one run of a process."""

    def __init__(self, report: Callable[[str], None], now: Callable[[], int] = steady_now) -> None:
        """Create a ledger.

        `report` receives one line when the journal is not writable and one when it is writable again. `now` returns
        microseconds since 1970.
        """
        incarnation = os.urandom(8).hex()
        self.counters = UsageCounters(incarnation)
        self.settled_spend = SettledSpend(incarnation)
        self.window_usage = WindowUsage(incarnation)
        self.journal: Journal | None = None
        self._report = report
        self._now = now
        self._open: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._days: dict[int, str] = {}
        self._day = ""
        self._day_begins = self._day_ends = 0.0
        """The UTC day that was last determined for a call, and its start and end on the monotonic clock."""

    @property
    def journal_errors(self) -> int:
        """Number of failed journal writes."""
        return self.journal.errors if self.journal is not None else 0

    def start(self, folder: Path | None) -> None:
        """Inherit earlier journals and start a new one. Without a writable folder, usage is kept in memory only."""
        if folder is None:
            return
        journal = Journal(folder, self.counters, self.settled_spend, self.window_usage, self._report)
        try:
            journal.open()
        except OSError as error:
            self._report(f"journal: {folder} is not writable ({error.strerror or error}): usage and spend are lost on restart")
            return
        self.journal = journal
        self.window_usage.on_change = journal.schedule_commit

    def stop(self) -> None:
        """Write remaining changes and close the journal."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.journal is not None:
            self.journal.close()

    def track(self, call: Call) -> None:
        """Journal the usage of a call every second while its answer is streamed, so that a crash loses little of the usage."""
        if self.journal is not None:
            self._open.add(call)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(PROGRESS_INTERVAL_S, self._write_progress)

    def book(self, call: Call, ended: float) -> None:
        """Book the usage of a call: the usage of its answer, and the usage of other attempts that are billed."""
        self._open.discard(call)
        day = self._day_of(call, ended)
        if len(call.attempts) > 1 or call.answered_by is None:
            for other, usage, cost in accounting.unanswered_usages(call):
                self.counters.add(_row(call, day, other.target.shared_name or other.target.name), _counts(0, usage, cost, other.target))
        attempt = call.answered_by or call.final_attempt
        if attempt is not None and (attempt.usage is not None or call.is_written):
            row = _row(call, day, attempt.target.shared_name or attempt.target.name)
            self.counters.add(row, _counts(1, attempt.usage, attempt.cost, attempt.target))
        if self.journal is not None:
            self.journal.call_ended(call.id)
            if self.counters.unjournaled or self.settled_spend.unjournaled:
                self.journal.schedule_commit()

    def _day_of(self, call: Call, ended: float) -> str:
        """Return the UTC day on which a call began."""
        if not self._day_begins <= call.started < self._day_ends:
            began = self._now() - int((ended - call.started) * US_PER_S)
            self._day, since = self.day_name(began // _DAY_US), began % _DAY_US / US_PER_S
            self._day_begins, self._day_ends = call.started - since, call.started - since + _DAY_US / US_PER_S
        return self._day

    def day_name(self, number: int) -> str:
        """Return the date of a day number (days since 1970).

        When a day is requested for the first time, outdated rows and budget periods are dropped.
        """
        name = self._days.get(number)
        if name is None:
            name = self._days[number] = str(_EPOCH + timedelta(days=number))
            self.counters.drop_before(str(_EPOCH + timedelta(days=number - KEPT_DAYS)))
            self.settled_spend.drop_past(self._now())
        return name

    def today(self) -> str:
        """Return the current UTC day."""
        return self.day_name(self._now() // _DAY_US)

    def _write_progress(self) -> None:
        self._timer = None
        ended = time.monotonic()
        if self.journal is not None:
            self.journal.record_progress([
                self._progress_of(call, call.answered_by, ended)
                for call in self._open
                if call.status == 200 and call.answered_by is not None and call.answered_by.relays
            ])
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(PROGRESS_INTERVAL_S, self._write_progress)

    def _progress_of(self, call: Call, attempt: Attempt, ended: float) -> CallProgress:
        usage = accounting.received(call, attempt)
        cost = accounting.cost_of(attempt, usage)
        row = _row(call, self._day_of(call, ended), attempt.target.shared_name or attempt.target.name)
        reservation = call.reservation
        reserved = [] if reservation is None else zip(reservation.limits, reservation.slots, strict=True)
        if attempt.target.brought and call.key is not None and not call.key.budgets_brought:
            reserved = []
        budgets = tuple((limit.key, slot) for limit, slot in reserved if limit.kind == "spend")
        return CallProgress(call.id, row, _counts(1, usage, cost, attempt.target), budgets)


def _row(call: Call, day: str, target: str) -> UsageRow:
    key, tags = call.key, ",".join(call.tags) if call.tags else ""
    name, team = (key.name, key.team) if key is not None else ("", "")
    return _new_tuple(UsageRow, (day, name, team, call.route, target, tags))


def _counts(requests: int, usage: Usage | None, cost: int | None, target: Target) -> UsageCounts:
    if usage is None:
        return UsageCounts(requests)
    prompt, output = usage.prompt_tokens, usage.completion_tokens
    if prompt < 0 or output < 0:
        prompt, output = max(0, prompt), max(0, output)
    known = cost or 0
    brought = known if target.brought else 0
    estimated, unpriced = int(usage.estimated), int(cost is None)
    counts = (requests, prompt, usage.cached_tokens, output, usage.reasoning_tokens, known, estimated, unpriced, brought)
    return _new_tuple(UsageCounts, counts)

"""The ledger of one process: every call is booked here once, at its end, under the day it began; the journal keeps what was booked."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import usage as accounting
from gateway.ledger.counters import KEPT_DAYS, UsageCounters, UsageCounts, UsageRow
from gateway.ledger.journal import Journal
from gateway.ledger.records import CallProgress
from gateway.store.limit import US_PER_S
from gateway.store.memory import steady_now
from gateway.store.settled_spend import SettledSpend
from providers.base import Usage

if TYPE_CHECKING:
    from gateway.call import Attempt, Call

PROGRESS_INTERVAL_S = 1.0
"""Seconds between two records of what calls under way used so far: what a crash may cost at most."""
_DAY = 86_400 * US_PER_S
_EPOCH = date(1970, 1, 1)


class Ledger:
    """Counters, budgets and journal of one incarnation of a process."""

    def __init__(self, report: Callable[[str], None], now: Callable[[], int] = steady_now) -> None:
        """`report` gets one line when the journal cannot be written; `now` gives microseconds since 1970."""
        incarnation = os.urandom(8).hex()
        self.counters = UsageCounters(incarnation)
        self.settled_spend = SettledSpend(incarnation)
        self.journal: Journal | None = None
        self._report = report
        self._now = now
        self._open: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._days: dict[int, str] = {}
        self._day = ""
        self._day_begins = self._day_ends = 0.0
        """The day of the last call that was booked, and its bounds on the monotonic clock."""

    @property
    def journal_errors(self) -> int:
        """Writes of the journal that failed."""
        return self.journal.errors if self.journal is not None else 0

    def start(self, folder: Path | None) -> None:
        """Read what was booked before, and begin to keep what will be. Without a folder, or where it cannot be written, nothing is kept."""
        if folder is None:
            return
        journal = Journal(folder, self.counters, self.settled_spend, self._report)
        try:
            journal.open()
        except OSError as error:
            self._report(f"journal: {folder} cannot be written ({error.strerror or error}): a restart will forget what was used and spent")
            return
        self.journal = journal

    def stop(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.journal is not None:
            self.journal.close()

    def track(self, call: Call) -> None:
        """A call is under way: what it uses is written down every second, in case nobody lives to book it."""
        if self.journal is not None:
            self._open.add(call)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(PROGRESS_INTERVAL_S, self._write_progress)

    def book(self, call: Call, ended: float) -> None:
        """Everything that a call used: its answer, and what failed attempts were billed."""
        self._open.discard(call)
        day = self._day_of(call, ended)
        for other, usage, cost in accounting.unanswered_usages(call):
            self.counters.add(_row(call, day, other.target.name), _counts(0, usage, cost))
        attempt = call.final_attempt
        if attempt is not None and (attempt.usage is not None or call.is_written):
            self.counters.add(_row(call, day, attempt.target.name), _counts(1, attempt.usage, attempt.cost))
        if self.journal is not None:
            self.journal.call_ended(call.id)
            if self.counters.unjournaled or self.settled_spend.unjournaled:
                self.journal.schedule_commit()

    def _day_of(self, call: Call, ended: float) -> str:
        """The UTC day that a call began on."""
        if not self._day_begins <= call.started < self._day_ends:
            began = self._now() - int((ended - call.started) * US_PER_S)
            self._day, since = self.day_name(began // _DAY), began % _DAY / US_PER_S
            self._day_begins, self._day_ends = call.started - since, call.started - since + _DAY / US_PER_S
        return self._day

    def day_name(self, number: int) -> str:
        """A day by its number since 1970."""
        found = self._days.get(number)
        if found is None:
            found = self._days[number] = str(_EPOCH + timedelta(days=number))
            self.counters.drop_before(str(_EPOCH + timedelta(days=number - KEPT_DAYS)))
            self.settled_spend.drop_past(self._now())
        return found

    def today(self) -> str:
        """The UTC day that it is."""
        return self.day_name(self._now() // _DAY)

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
        cost = attempt.price.usage_cost(usage) if attempt.price is not None else 0
        row = _row(call, self._day_of(call, ended), attempt.target.name)
        held = call.reservation
        reserved = [] if held is None else zip(held.limits, held.slots, strict=True)
        budgets = tuple((limit.key, slot) for limit, slot in reserved if limit.kind == "spend")
        return CallProgress(call.id, row, _counts(1, usage, cost), budgets)


def _row(call: Call, day: str, target: str) -> UsageRow:
    key = call.key
    return UsageRow(day, key.name if key is not None else "", key.team if key is not None else "", call.route, target)


def _counts(requests: int, usage: Usage | None, cost: int) -> UsageCounts:
    if usage is None:
        return UsageCounts(requests)
    prompt, output = usage.prompt_tokens, usage.completion_tokens
    if prompt < 0 or output < 0:
        prompt, output = max(0, prompt), max(0, output)
    return UsageCounts(requests, prompt, usage.cached_tokens, output, usage.reasoning_tokens, cost, int(usage.estimated))

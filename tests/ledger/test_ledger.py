"""The ledger of one process: its days, its bookings, its journal, and a missing or unwritable folder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from gateway.call import Attempt, Call
from gateway.catalog.token_price import TokenPrice
from gateway.keys.virtual_key import VirtualKey
from gateway.ledger.counters import KEPT_DAYS, UsageCounts, UsageRow
from gateway.ledger.ledger import PROGRESS_INTERVAL_S, Ledger
from gateway.ledger.records import CallProgress
from gateway.store.limit import Costs, Limit, Reservation
from providers.base import Usage
from tests.support.attempts import call_with, target_named
from tests.support.each import each

DAY_US = 86_400_000_000


def test_days_are_utc_dates_and_outdated_rows_are_dropped() -> None:
    now = [20_000 * DAY_US]
    ledger = Ledger(lambda line: None, lambda: now[0])
    assert ledger.today() == "2024-10-04"
    ledger.counters.add(UsageRow(ledger.today(), "k", "", "m", "up/m"), UsageCounts(requests=1))
    now[0] += KEPT_DAYS * DAY_US
    ledger.today()
    assert list(ledger.counters.all_copies())
    now[0] += DAY_US
    ledger.today()
    assert not list(ledger.counters.all_copies())


async def test_without_a_writable_folder_usage_is_kept_in_memory(tmp_path: Path) -> None:
    lines: list[str] = []
    ledger = Ledger(lines.append)
    ledger.start(None)
    assert (ledger.journal, lines) == (None, [])
    (tmp_path / "file").touch()
    ledger.start(tmp_path / "file" / "below")
    assert ledger.journal is None
    below = tmp_path / "file" / "below"
    assert lines == [f"journal: {below} is not writable (Not a directory): usage and spend are lost on restart"]
    assert ledger.journal_errors == 0
    ledger.stop()


PRICE = TokenPrice(10 * 10**6, 100 * 10**6, 5 * 10**6)


class Recorded:
    """A journal that records the calls of its methods."""

    errors = 3

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.commits = 0
        self.progress: list[list[CallProgress]] = []
        self.is_closed = False

    def call_ended(self, id: str) -> None:
        self.ended.append(id)

    def schedule_commit(self) -> None:
        self.commits += 1

    def record_progress(self, calls: Sequence[CallProgress]) -> None:
        self.progress.append(list(calls))

    def close(self) -> None:
        self.is_closed = True


def ledger_at(now: int, journal: Recorded | None = None) -> Ledger:
    """Return a ledger whose clock stands still."""
    ledger = Ledger(lambda line: None, lambda: now)
    ledger.journal = journal  # type: ignore[assignment]
    return ledger


def attempt(usage: Usage | None = None, name: str = "up/m", *, brought: bool = False, **fields: Any) -> Attempt:
    """Return an attempt that has a price."""
    return Attempt(structs.replace(target_named(name), brought=brought), fields.pop("price", PRICE), usage=usage, **fields)


def answered(*attempts: Attempt, **fields: Any) -> Call:
    """Return a call that the last attempt answered."""
    return call_with(**{"attempts": list(attempts), "answered_by": attempts[-1], "status": 200, **fields})


def rows(ledger: Ledger) -> dict[UsageRow, UsageCounts]:
    """Return the rows of a ledger."""
    return {row: counts for _, row, counts in ledger.counters.all_copies()}


@each(
    ("age_s", "since_midnight_s", "day"),
    [(0, 0, "2024-10-04"), (1, 1, "2024-10-04"), (2, 1, "2024-10-03"), (0.5, 0.25, "2024-10-03"), (86_401, 1, "2024-10-03")],
)
def test_a_call_is_booked_on_the_day_on_which_it_began(age_s: float, since_midnight_s: float, day: str) -> None:
    ledger = ledger_at(20_000 * DAY_US + int(since_midnight_s * 1e6))
    ledger.book(answered(attempt(Usage(1)), started=500_000.0 - age_s), 500_000.0)
    assert [row.day for row in rows(ledger)] == [day]


def test_the_day_of_one_call_is_that_of_others_until_it_ends() -> None:
    began, midnight = 500_000.0, 20_000 * DAY_US
    now = [midnight + 3_600_000_000]
    ledger = Ledger(lambda line: None, lambda: now[0])

    def day_of(hours: float) -> str:
        """Return the day of a call that begins this many hours after the day of the first one."""
        started, now[0] = began + hours * 3600, midnight + int(hours * 3_600_000_000)
        return ledger._day_of(call_with(started=started), started)

    assert [day_of(hours) for hours in (1, 0, 23.999, 24, 25, 23.999, -0.001, 48)] == [
        "2024-10-04", "2024-10-04", "2024-10-04", "2024-10-05", "2024-10-05", "2024-10-04", "2024-10-03", "2024-10-06",
    ]  # fmt: skip


def test_the_day_is_determined_once_for_all_of_its_calls() -> None:
    asked: list[int] = []
    ledger = Ledger(lambda line: None, lambda: asked.append(1) or 20_000 * DAY_US + 1)  # type: ignore[func-returns-value]
    first = call_with(started=500_000.0)
    assert ledger._day_of(first, first.started) == "2024-10-04"
    count = len(asked)
    assert [ledger._day_of(call_with(started=at), at) for at in (500_000.0, 586_399.0)] == ["2024-10-04"] * 2
    assert len(asked) == count


def test_budget_periods_are_dropped_with_the_first_call_of_a_day() -> None:
    ledger = ledger_at(20_000 * DAY_US)
    budget = Limit("key:a", "spend", 10, "day")
    for period in (1, 20_000):
        ledger.settled_spend.add(budget.key, period, 5)
    ledger.today()
    assert [entry.period for entry in ledger.settled_spend.all_entries()] == [20_000]


def test_a_booking_has_the_names_of_the_call_and_every_count_of_its_usage() -> None:
    ledger = ledger_at(20_000 * DAY_US)
    key = VirtualKey("app", team="web")
    usage = Usage(10, 5, cached_tokens=4, reasoning_tokens=3)
    ledger.book(answered(attempt(usage), key=key, tags=("a", "b"), started=1.0), 1.0)
    ledger.book(answered(attempt(usage, brought=True), started=1.0), 1.0)
    cost = 6 * 10 + 4 * 5 + 5 * 100
    assert rows(ledger) == {  # the attempt's cost is set when the call ends: 0 here
        UsageRow("2024-10-04", "app", "web", "m", "up/m", "a,b"): UsageCounts(1, 10, 4, 5, 3, 0, 0, 0, 0),
        UsageRow("2024-10-04", "", "", "m", "up/m"): UsageCounts(1, 10, 4, 5, 3, 0, 0, 0, 0),
    }
    for brought in (False, True):
        other = ledger_at(20_000 * DAY_US)
        other.book(answered(attempt(usage, brought=brought, cost=cost), started=1.0), 1.0)
        assert list(rows(other).values()) == [UsageCounts(1, 10, 4, 5, 3, cost, 0, 0, cost if brought else 0)]


@each(
    ("usage", "cost", "counts"),
    [
        (Usage(-3, 5), 7, (1, 0, 0, 5, 0, 7, 0, 0, 0)),
        (Usage(3, -5), 7, (1, 3, 0, 0, 0, 7, 0, 0, 0)),
        (Usage(3, 5, estimated=True), 7, (1, 3, 0, 5, 0, 7, 1, 0, 0)),
        (Usage(3, 5), None, (1, 3, 0, 5, 0, 0, 0, 1, 0)),
        (None, 7, (1, 0, 0, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_counts_are_not_negative_and_unknown_ones_are_marked(usage: Usage | None, cost: int | None, counts: tuple[int, ...]) -> None:
    ledger = ledger_at(20_000 * DAY_US)
    ledger.book(answered(attempt(usage, cost=cost, is_written=True), started=1.0), 1.0)
    assert list(rows(ledger).values()) == [counts]


def test_other_attempts_are_booked_without_a_request_of_their_own() -> None:
    ledger = ledger_at(20_000 * DAY_US)
    lost = attempt(name="up/lost", billed=(Usage(2, 1), Usage(1, 0)), brought=True)
    ledger.book(answered(lost, attempt(Usage(10, 1), cost=200), started=1.0), 1.0)
    counts = {row.target: counts for row, counts in rows(ledger).items()}
    assert counts == {"up/lost": (0, 3, 0, 1, 0, 130, 0, 0, 130), "up/m": (1, 10, 0, 1, 0, 200, 0, 0, 0)}


def test_a_single_attempt_that_is_billed_without_an_answer_is_booked() -> None:
    ledger = ledger_at(20_000 * DAY_US)
    ledger.book(call_with(attempts=[attempt(billed=(Usage(2, 1),))], status=502), 1.0)
    assert [(counts.requests, counts.prompt, counts.output) for counts in rows(ledger).values()] == [(0, 2, 1)]


@each(("is_written", "usage", "requests"), [(False, None, []), (True, None, [1]), (False, Usage(1), [1])])
def test_a_call_that_reached_no_provider_is_not_booked(is_written: bool, usage: Usage | None, requests: list[int]) -> None:
    ledger = ledger_at(20_000 * DAY_US)
    call = call_with(attempts=[attempt(usage, is_written=is_written)], status=502)
    ledger.book(call, call.started)
    assert [counts.requests for counts in rows(ledger).values()] == requests
    ledger.book(call_with(), 0.0)
    assert len(rows(ledger)) == len(requests)


def test_every_end_is_passed_to_the_journal_and_only_changes_are_committed() -> None:
    journal = Recorded()
    ledger = ledger_at(20_000 * DAY_US, journal)
    assert ledger.journal_errors == 3
    refused = call_with(id="refused")
    ledger.book(refused, refused.started)
    assert (journal.ended, journal.commits) == (["refused"], 0)
    ledger.settled_spend.add("lockgate:{caller}:key:a:spend:day", 20_000, 1)
    ledger.book(refused, refused.started)
    assert journal.commits == 1
    ledger.settled_spend.unjournaled.clear()
    ledger.book(answered(attempt(Usage(1)), id="done"), 1.0)
    assert (journal.ended[-1], journal.commits) == ("done", 2)


def streaming(**fields: Any) -> Call:
    """Return a call whose stream has reported its usage so far."""
    relay = SimpleNamespace(usage=Usage(10, 2, cached_tokens=1), chunks=1, finished=False)
    return answered(attempt(relays=[relay], brought=fields.pop("brought", False)), **fields)


async def test_the_usage_of_streams_in_flight_is_journaled_until_they_end() -> None:
    journal = Recorded()
    ledger = ledger_at(20_000 * DAY_US, journal)
    budget, rate = Limit("key:a", "spend", 10, "day"), Limit("key:a", "requests", 10, "min")
    call = streaming(reservation=Reservation("r", (rate, budget), Costs(), (5, 20_000), (), 0))
    waiting, failed = call_with(status=200), streaming(status=502)
    silent = answered(attempt())
    assert ledger._timer is None
    for one in (call, waiting, failed, silent):
        ledger.track(one)
    timer = ledger._timer
    assert timer is not None
    assert 0 < timer.when() - asyncio.get_running_loop().time() <= PROGRESS_INTERVAL_S
    timer.cancel()
    ledger._write_progress()
    counts = UsageCounts(1, 10, 1, 2, 0, 9 * 10 + 5 + 200)
    (told,) = journal.progress[0]
    assert told == CallProgress(call.id, told.row, counts, ((budget.key, 20_000),))
    assert (told.row.target, told.row.model) == ("up/m", "m")
    assert ledger._timer is not None
    assert ledger._timer is not timer
    assert 0 < ledger._timer.when() - asyncio.get_running_loop().time() <= PROGRESS_INTERVAL_S
    ledger._timer.cancel()
    for one in (call, waiting, failed, silent):
        ledger.book(one, one.started)
    ledger._write_progress()
    assert (journal.progress[1:], ledger._timer) == ([[]], None)


@each(
    ("brought", "key", "is_charged"),
    [
        (False, VirtualKey("app", budgets_brought=False), True),
        (True, VirtualKey("app", budgets_brought=False), False),
        (True, VirtualKey("app"), True),
        (True, None, True),
    ],
)
def test_usage_on_a_brought_credential_is_charged_to_budgets_by_the_keys_choice(
    brought: bool, key: VirtualKey | None, is_charged: bool
) -> None:
    budget = Limit("key:app", "spend", 10, "day")
    call = streaming(brought=brought, key=key, reservation=Reservation("r", (budget,), Costs(), (7,), (), 0))
    assert call.answered_by is not None
    told = ledger_at(20_000 * DAY_US)._progress_of(call, call.answered_by, call.started)
    assert told.budgets == (((budget.key, 7),) if is_charged else ())
    assert told.counts.brought_cost == (told.counts.cost if brought else 0)
    call.reservation = None
    assert ledger_at(20_000 * DAY_US)._progress_of(call, call.answered_by, call.started).budgets == ()


async def test_without_a_journal_nothing_is_tracked() -> None:
    ledger = ledger_at(20_000 * DAY_US)
    ledger.track(streaming())
    assert (ledger._timer, ledger._open) == (None, set())


async def test_a_stop_ends_the_timer_and_the_journal() -> None:
    journal = Recorded()
    ledger = ledger_at(20_000 * DAY_US, journal)
    ledger.track(streaming())
    timer = ledger._timer
    ledger.track(streaming())
    assert ledger._timer is timer is not None
    ledger.stop()
    assert (timer.cancelled(), ledger._timer, journal.is_closed) == (True, None, True)


async def test_a_writable_folder_has_the_journal_of_the_incarnation(tmp_path: Path) -> None:
    ledger = Ledger(lambda line: None)
    ledger.start(tmp_path)
    assert ledger.journal is not None
    assert ledger.journal._path == tmp_path / f"{ledger.counters.incarnation}.journal"
    assert ledger.journal._path.exists()
    assert ledger.settled_spend.incarnation == ledger.counters.incarnation
    assert len(ledger.counters.incarnation) == 16
    assert ledger.journal._timer is None
    ledger.window_usage.add([(Limit("key:app", "requests", 9, "h"), 1, 2)])
    assert ledger.journal._timer is not None  # charges to windows are written too
    ledger.stop()

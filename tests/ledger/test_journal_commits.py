"""The commits of a journal: the content of each commit, and the time of the next one. test_journal.py tests the files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.ledger import records
from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow
from gateway.ledger.journal import COMMIT_DELAY_S, MAX_FILE_BYTES, Journal
from gateway.ledger.records import CallProgress
from gateway.store.limit import Limit
from gateway.store.settled_spend import SettledSpend
from gateway.store.window_usage import WindowEntry, WindowUsage

ROW = UsageRow("2026-11-21", "app", "", "m", "up/mock")
BUDGET = ("lockgate:{caller}:key:app:spend:month", 40_000)
FOLDER = Path("/journals")


class Writes(Journal):
    """A journal without a file. `take` returns the bytes that the writer thread would have received."""

    def __init__(self, **settings: Any) -> None:
        self.counters, self.spent, self.windows = UsageCounters("me"), SettledSpend("me"), WindowUsage("me")
        self.reports: list[str] = []
        super().__init__(FOLDER, self.counters, self.spent, self.windows, self.reports.append, **settings)
        self.everything = b""
        """The content of the file."""

    def take(self, error: str = "") -> tuple[str, records.JournalContents] | None:
        """Commit. Return `replace` or `append` and the content of the file, or None if nothing is written."""
        self._commit()
        if self._writes.empty():
            return None
        write = self._writes.get()
        assert write is not None
        assert self._writing
        if not error:
            self.everything = write[0] if write[1] else self.everything + write[0]
        self._on_written(len(write[0]), write[1], error)
        assert not self._writing
        return ("replace" if write[1] else "append"), records.read_journal(self.everything)

    def book(self, cost: int = 1) -> None:
        """Book one call."""
        self.counters.add(ROW, UsageCounts(1, cost=cost))
        self.spent.add(*BUDGET, cost)

    def costs(self, error: str = "") -> tuple[str, int, int] | None:
        """Commit. Return `replace` or `append`, and the cost and the spend in the file, or None if nothing is written."""
        if (taken := self.take(error)) is None:
            return None
        assert taken[1].damaged == 0
        return taken[0], sum(counts.cost for counts in taken[1].rows.values()), sum(taken[1].spend.values())


class Clock:
    """Takes the place of the event loop. It keeps the delays of scheduled calls, and counts cancellations."""

    def __init__(self, journal: Journal) -> None:
        self.delays: list[float] = []
        self.cancelled = 0
        journal._loop = self  # type: ignore[assignment]

    def call_later(self, delay: float, work: Any) -> Any:
        self.delays.append(delay)
        return SimpleNamespace(cancel=self._cancel)

    def _cancel(self) -> None:
        self.cancelled += 1


def progress(id: str, cost: int) -> CallProgress:
    """Return the usage so far of a call in flight."""
    return CallProgress(id, ROW, UsageCounts(1, cost=cost), (BUDGET,))


def test_the_first_commit_is_the_whole_file_and_later_ones_are_changes() -> None:
    journal = Writes()
    assert journal.costs() is None
    journal.book(5)
    assert journal.costs() == ("replace", 5, 5)
    assert journal.costs() is None
    journal.book(2)
    assert journal.costs() == ("append", 7, 7)
    journal.counters.add(ROW, UsageCounts(cost=1))  # without a budget
    assert journal.costs() == ("append", 8, 7)
    journal.spent.add(*BUDGET, 10)  # without a row
    assert journal.costs() == ("append", 8, 17)
    assert journal.costs() is None


def test_an_appended_commit_has_only_the_rows_that_changed() -> None:
    journal = Writes()
    journal.counters.merge_copy("dead", ROW, UsageCounts(1))
    journal.book()
    journal.take()
    size = len(journal.everything)
    other = UsageRow("2026-11-22", "b", "", "m", "up/mock")
    journal.counters.add(other, UsageCounts(3))
    journal.take()
    assert set(records.read_journal(journal.everything[size:]).rows) == {("me", other)}
    assert set(records.read_journal(journal.everything).rows) == {("me", other), ("me", ROW), ("dead", ROW)}


def test_charges_to_windows_are_committed_once_and_with_every_whole_file() -> None:
    journal, hour = Writes(), Limit("key:app", "requests", 9, "h")
    journal.windows.merge(WindowEntry("dead", hour.key, 4, 1))
    journal.windows.on_change = lambda: None
    journal.windows.add([(hour, 5, 2)])
    taken = journal.take()
    assert taken is not None
    assert (taken[0], taken[1].windows) == ("replace", {("dead", hour.key, 4): 1, ("me", hour.key, 5): 2})
    assert journal.take() is None
    size = len(journal.everything)
    journal.windows.add([(hour, 5, 4), (hour, 6, 8)])
    assert (journal.take() or [""])[0] == "append"
    assert records.read_journal(journal.everything).windows == {
        ("dead", hour.key, 4): 1, ("me", hour.key, 5): 6, ("me", hour.key, 6): 8,
    }  # fmt: skip
    assert len(journal.everything[size:].splitlines()) == 1
    assert journal.take() is None


def test_calls_in_flight_count_until_they_end() -> None:
    journal = Writes()
    journal.record_progress([])
    assert journal.costs() is None
    journal.record_progress([progress("a", 10), progress("b", 100)])
    assert journal.costs() == ("replace", 110, 110)
    assert journal.costs() is None
    journal.record_progress([progress("a", 20), progress("b", 100)])
    assert journal.costs() == ("append", 120, 120)
    journal.call_ended("unknown")
    assert journal.costs() is None
    journal.call_ended("a")
    journal.book(25)
    assert journal.costs() == ("append", 125, 125)
    journal.call_ended("a")  # has been removed
    assert journal.costs() is None
    journal.call_ended("b")  # books nothing
    assert journal.costs() == ("append", 25, 25)
    journal.record_progress([])
    assert journal.costs() is None


def test_an_end_of_all_calls_in_flight_is_recorded() -> None:
    journal = Writes()
    journal.record_progress([progress("a", 10)])
    journal.take()
    journal.record_progress([])
    assert journal.costs() == ("append", 0, 0)


def test_a_new_record_of_the_calls_in_flight_has_those_that_did_not_end() -> None:
    journal = Writes()
    journal.record_progress([progress("a", 10)])
    journal.take()
    journal.call_ended("a")
    journal.record_progress([progress("b", 7)])
    assert journal.costs() == ("append", 7, 7)


@pytest.mark.parametrize("fails", [False, True])
def test_the_whole_file_has_the_calls_in_flight(fails: bool) -> None:
    journal = Writes()
    journal.record_progress([progress("a", 10), progress("b", 100)])
    journal.call_ended("b")
    assert journal.costs("disk full" if fails else "") == (("replace", 0, 0) if fails else ("replace", 10, 10))
    if fails:
        assert journal.costs() == ("replace", 10, 10)
    journal._rewrite_due = True
    journal.book()
    assert journal.costs() == ("replace", 11, 11)


def test_a_file_is_replaced_above_its_maximum_and_four_times_its_first_size() -> None:
    for maximum, first in ((2000, None), (1, None)):
        journal = Writes(max_file_bytes=maximum)
        journal.book()
        journal.take()
        first = len(journal.everything)
        limit = max(maximum, 4 * first)
        for _ in range(300):
            size = len(journal.everything)
            journal.book()
            taken = journal.take()
            assert taken is not None
            if taken[0] == "replace":
                assert size > limit
                assert journal._size == journal._snapshot_size == len(journal.everything)
                break
            assert size <= limit
            assert journal._size == len(journal.everything)
        else:
            pytest.fail("the file is never replaced")
    journal = Writes(max_file_bytes=500)
    journal._rewrite_due, journal._size = False, 500
    journal.book()
    assert journal.take()[0] == "append"  # type: ignore[index]


def test_the_file_is_written_again_after_a_failure_which_is_reported_once() -> None:
    journal = Writes()
    journal.book(1)
    journal.take()
    journal.book(2)
    assert journal.costs("disk full") == ("append", 1, 1)
    assert journal.costs("disk full") == ("replace", 1, 1)
    assert len(journal.reports) == 1
    assert journal.costs("disk full") == ("replace", 1, 1)
    assert journal.errors == 3
    assert journal.reports == ["journal: /journals is not writable (disk full): usage is kept in memory"]
    assert journal.costs() == ("replace", 3, 3)
    assert journal.reports[1:] == ["journal: /journals is writable again"]
    journal.book(4)
    assert journal.costs() == ("append", 7, 7)
    assert (journal.errors, len(journal.reports)) == (3, 2)


def test_commits_follow_changes_one_at_a_time() -> None:
    journal = Writes(retry_delay_s=9.0)
    journal.schedule_commit()  # not open: nothing is scheduled
    clock = Clock(journal)
    journal.schedule_commit()
    journal.schedule_commit()
    assert clock.delays == [COMMIT_DELAY_S]
    journal.book()
    journal._commit()
    journal.book()
    journal._commit()  # waits for the write
    assert journal._writes.qsize() == 1
    journal._on_written(10, True, "")
    assert clock.delays == [COMMIT_DELAY_S] * 2  # for the second booking
    journal._commit()
    journal._on_written(10, False, "")
    assert clock.delays == [COMMIT_DELAY_S] * 2
    journal.book()
    journal._commit()
    journal._on_written(10, False, "disk full")
    assert clock.delays[2:] == [9.0]
    journal._commit()
    journal._on_written(10, True, "")
    assert clock.delays[3:] == []
    journal.schedule_commit()
    assert clock.delays[3:] == [COMMIT_DELAY_S]


def test_progress_and_ends_are_committed_soon() -> None:
    journal = Writes()
    clock = Clock(journal)
    journal.record_progress([])
    assert clock.delays == []
    journal.record_progress([progress("a", 1)])
    journal._timer = None
    journal.call_ended("b")
    assert len(clock.delays) == 1
    journal.call_ended("a")
    assert len(clock.delays) == 2


def test_a_close_writes_what_is_left_and_ends_the_writer() -> None:
    journal = Writes()
    clock = Clock(journal)
    waited: list[float] = []
    for is_first in (True, False):
        journal._thread = SimpleNamespace(join=waited.append)  # type: ignore[assignment]
        journal.book()
        journal.schedule_commit()
        journal.close()
        write = journal._writes.get()
        assert write is not None
        assert write[1] is is_first
        assert journal._writes.get() is None
        assert (journal._thread, journal._loop, journal._timer) == (None, None, None)
        journal._rewrite_due = False
        journal._loop = clock  # type: ignore[assignment]
    assert (waited, clock.cancelled) == ([2.0, 2.0], 2)
    journal._thread = SimpleNamespace(join=waited.append)  # type: ignore[assignment]
    journal.close()
    assert journal._writes.get() is None  # without changes, nothing is written
    journal.close()
    assert journal._writes.empty()


async def test_the_file_is_that_of_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    journal = Journal(folder, UsageCounters("me"), SettledSpend("me"), WindowUsage("me"), lambda line: None)
    journal.open()
    assert journal._thread is not None
    assert (journal._thread.daemon, journal._loop) == (True, asyncio.get_running_loop())
    assert journal._path == folder / "me.journal"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (journal._size, journal._rewrite_due, journal._max_file_bytes) == (journal._path.stat().st_size, False, MAX_FILE_BYTES)
    thread = journal._thread
    journal.close()
    assert not thread.is_alive()
    assert journal._descriptor == -1
    again = Journal(folder, UsageCounters("other"), SettledSpend("other"), WindowUsage("other"), lambda line: None)
    again.open()  # the folder exists
    again.close()

"""The journal: inheriting the files of ended processes, a full disk, and the file size."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.ledger import records
from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow, merge_copies
from gateway.ledger.journal import Journal
from gateway.store.limit import Limit
from gateway.store.settled_spend import SettledSpend
from gateway.store.window_usage import WindowEntry, WindowUsage
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually, live
from tests.ledger.conftest import ENVIRON, call, usage, yaml

ROW = UsageRow("2026-11-21", "app", "", "m", "up/mock")
BUDGET = ("lockgate:{caller}:key:app:spend:month", 40_000)
"""The key of a budget, and a period far in the future, which does not end during the tests."""


class Process:
    """Counters, settled spend, journal and log lines of one process."""

    def __init__(self, name: str, folder: Path, **settings: float) -> None:
        self.counters, self.spent, self.windows, self.reports = UsageCounters(name), SettledSpend(name), WindowUsage(name), list[str]()
        self.journal = Journal(folder, self.counters, self.spent, self.windows, self.reports.append, retry_delay_s=0.05, **settings)  # type: ignore[arg-type]
        self.path = folder / f"{name}.journal"
        self.journal.open()

    def book(self, cost: int) -> None:
        """Book one call."""
        self.counters.add(ROW, UsageCounts(1, 2, 0, 3, 0, cost, 0))
        self.spent.add(*BUDGET, cost)
        self.journal.schedule_commit()

    def known(self) -> tuple[int, int, int]:
        """Return requests, cost and spend in memory."""
        found = merge_copies(self.counters.all_copies()).get(ROW, UsageCounts())
        return found.requests, found.cost, self.spent.total(*BUDGET)

    def written(self) -> tuple[int, int]:
        """Return requests and spend in the file."""
        found = records.read_journal(self.path.read_bytes())
        return sum(one.requests for one in found.rows.values()), sum(found.spend.values())


def names(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return [path.name for path in folder.iterdir()]


async def test_bookings_are_on_disk_at_once(tmp_path: Path) -> None:
    process = Process("a", tmp_path)
    process.book(7)
    await eventually(lambda: process.written() == (1, 7))
    process.book(5)
    process.journal.close()  # writes what is not yet on disk
    assert process.written() == (2, 12)


async def test_only_journals_of_ended_processes_are_inherited(tmp_path: Path) -> None:
    dead, alive = Process("dead", tmp_path), Process("alive", tmp_path)
    dead.book(100)
    alive.book(10)
    dead.journal.close()
    await eventually(lambda: alive.written() == (1, 10))
    first, second = Process("first", tmp_path), Process("second", tmp_path)
    assert first.known() == (1, 100, 100)
    assert second.known() == (0, 0, 0)
    assert not dead.path.exists()
    assert alive.path.exists()
    first.book(1)
    for one in (first, second, alive):
        one.journal.close()
    last = Process("last", tmp_path)
    assert last.known() == (3, 111, 111)
    last.journal.close()
    assert names(tmp_path) == ["last.journal"]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Limit the size of all files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_p12_a_full_disk_stops_no_call_and_loses_no_usage(tmp_path: Path) -> None:
    process = Process("a", tmp_path)
    process.book(1)
    await eventually(lambda: process.written() == (1, 1))
    with full_disk(20):
        process.book(2)
        await eventually(lambda: process.journal.errors >= 3)
        process.book(4)
        assert process.known() == (3, 7, 7)
    await eventually(lambda: process.written() == (3, 7))
    await eventually(lambda: len(process.reports) == 2)
    assert "is not writable" in process.reports[0]
    assert "is writable again" in process.reports[1]
    process.book(8)
    process.journal.close()
    assert process.written() == (4, 15)


async def test_journal_is_rewritten_at_its_maximum_size(tmp_path: Path) -> None:
    process = Process("a", tmp_path, max_file_bytes=2048)
    for at in range(200):
        process.book(1)
        process.journal._commit()
        await eventually(lambda: not process.journal._writing)
        assert process.path.stat().st_size < 2048 + 1024, at
    process.journal.close()
    assert process.written() == (200, 200)


async def test_an_unwritable_folder_is_reported_once_and_calls_are_served(
    up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    async with live(yaml(up, tmp_path / "file" / "below"), environ=ENVIRON) as gateway:
        assert (await call(client, gateway)).status_code == 200
        assert (await usage(client, gateway))["total"]["requests"] == 1
    lines = [line for line in gateway.reports if line.startswith("journal: ")]
    assert [line.split(" is not writable")[0] for line in lines] == [f"journal: {tmp_path / 'file' / 'below'}"]


def test_a_replaced_file_is_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, UsageCounters("me"), SettledSpend("me"), WindowUsage("me"), lambda line: None)
    journal._write(b"first\n", True)
    replaced = journal._descriptor
    journal._write(b"second\n", True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(replaced)
    journal._write(b"third\n", False)
    os.close(journal._descriptor)
    assert (tmp_path / "me.journal").read_bytes() == b"second\nthird\n"


async def test_a_start_removes_temporary_files_of_processes_that_were_killed_long_ago(tmp_path: Path) -> None:
    (tmp_path / "killed.new").touch()
    os.utime(tmp_path / "killed.new", (0, 0))
    process = Process("a", tmp_path)
    process.journal.close()
    assert names(tmp_path) == ["a.journal"]


async def test_charges_to_windows_of_an_ended_process_are_inherited(tmp_path: Path) -> None:
    hour, usages = Limit("key:app", "requests", 9, "h"), [WindowUsage("dead"), WindowUsage("next")]
    usages[0].add([(hour, 5, 3)])
    for each in usages:
        journal = Journal(tmp_path, UsageCounters(each.incarnation), SettledSpend(each.incarnation), each, lambda line: None)
        journal.open()
        journal.close()
    assert list(usages[1].all_entries()) == [WindowEntry("dead", hour.key, 5, 3)]

"""A supervisor reads the usage of its workers over their sockets, and determines whether all have answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow, merge_copies
from gateway.server.worker_usage import SUFFIX, serve_usage, usage_of_workers
from tests.support.listener import serve_streams

TODAY = UsageRow("2026-11-21", "app", "search", "m", "up/mock", "a,b")
BEFORE = UsageRow("2026-11-20", "app", "", "m", "up/mock")


def counters_of(incarnation: str, requests: int) -> UsageCounters:
    """Return counters with usage on two days, and an inherited row that both workers have."""
    counters = UsageCounters(incarnation)
    counters.add(TODAY, UsageCounts(requests, 2, cost=5))
    counters.add(BEFORE, UsageCounts(7))
    counters.merge_copy("ended", TODAY, UsageCounts(100))
    return counters


async def test_the_usage_of_all_workers_is_summed_once_per_incarnation(tmp_path: Path) -> None:
    controls = [tmp_path / "0.sock", tmp_path / "1.sock"]
    servers = [await serve_usage(str(control), counters_of(control.name, 3)) for control in controls]
    copies, is_complete = await usage_of_workers(controls, [TODAY.day])
    assert is_complete
    assert merge_copies(copies) == {TODAY: UsageCounts(106, 4, cost=10)}
    for server in servers:
        server.close()


async def test_a_worker_that_does_not_answer_makes_the_sum_incomplete(tmp_path: Path) -> None:
    controls = [tmp_path / name for name in ("0.sock", "absent.sock", "silent.sock", "wrong.sock")]

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def wrong(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"{")

    server = await serve_usage(str(controls[0]), counters_of("one", 3))
    async with serve_streams(silent, path=f"{controls[2]}{SUFFIX}"), serve_streams(wrong, path=f"{controls[3]}{SUFFIX}"):
        for control in (controls[1], controls[3]):
            copies, is_complete = await usage_of_workers([controls[0], control], [BEFORE.day], timeout_s=30)
            assert not is_complete, control
            assert merge_copies(copies) == {BEFORE: UsageCounts(7)}
        assert await usage_of_workers([controls[2]], [BEFORE.day], timeout_s=0.1) == ([], False)
    server.close()


async def test_an_unreadable_question_gets_no_rows(tmp_path: Path) -> None:
    server = await serve_usage(str(tmp_path / "0.sock"), counters_of("one", 3))
    reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/0.sock{SUFFIX}")
    writer.write(b"?")
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    server.close()

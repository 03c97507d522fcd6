"""Call records are written by a thread, in batches; lines that cannot be written are counted and affect no call."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.config.load import parse
from gateway.telemetry import call_records
from gateway.telemetry.call_records import CallRecords, records_path
from gateway.telemetry.record_file import RecordFile
from tests.telemetry.test_record_file import ids, line


class ScriptedFile(RecordFile):
    """A file whose writes fail with the given errors, one by one; None is a success."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.batches: list[list[bytes]] = []

    def append(self, lines: Iterable[bytes], now: float, contents: object = ()) -> None:
        """Take a batch, or fail."""
        if (error := self.errors.pop(0) if self.errors else None) is not None:
            raise error
        self.batches.append(list(lines))

    def close(self) -> None:
        """Close nothing."""


async def test_lines_are_written_in_batches(tmp_path: Path) -> None:
    file = ScriptedFile()
    records = CallRecords(file, lambda text: None)
    for number in range(3):
        records.add(line(str(number)))
    assert file.batches == []
    await records.flush()
    records.add(line("3"))
    await records.stop()
    assert file.batches == [[line("0"), line("1"), line("2")], [line("3")]]
    assert records.drops == 0


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), PermissionError(13, "Permission denied")])
async def test_lines_that_cannot_be_written_are_counted_and_reported_once(error: Exception) -> None:
    reports: list[str] = []
    records = CallRecords(ScriptedFile(error, error, None), reports.append)
    for number in range(3):
        records.add(line(str(number)))
        records.add(line(f"{number}b"))
        await records.flush()
    await records.stop()
    assert records.drops == 4
    assert reports == [f"calls: {error}: calls are not recorded until this is repaired", "calls: calls are recorded again"]


async def test_lines_beyond_the_buffer_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_records, "MAX_LINES", 2)
    file = ScriptedFile()
    records = CallRecords(file, lambda text: None)
    for number in range(5):
        records.add(line(str(number)))
    await records.flush()
    await records.stop()
    assert (file.batches, records.drops) == ([[line("0"), line("1")]], 3)


async def test_an_undecodable_line_does_not_end_the_thread(tmp_path: Path) -> None:
    records = CallRecords(RecordFile(tmp_path / "calls.db", 1e9, 1 << 20), lambda text: None)
    for one in (b"{}\n", line("kept", ended=2e9)):
        records.add(one)
        await records.flush()
    await records.stop()
    assert (ids(tmp_path / "calls.db"), records.drops) == (["kept"], 1)


@pytest.mark.parametrize(
    ("settings", "is_recorded"),
    [("journal: state", True), ("journal: off", False), ("journal: state\ncalls: { max_bytes: 0 }", False)],
)
def test_calls_are_recorded_unless_that_is_turned_off(tmp_path: Path, settings: str, is_recorded: bool) -> None:
    config = parse(settings.encode(), str(tmp_path / "g.yaml"), environ={})
    assert records_path(config, {}) == (tmp_path / "state" / "calls-1.db" if is_recorded else None)

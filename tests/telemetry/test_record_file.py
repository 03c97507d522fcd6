"""The file of call records: the content of a row, the limits, and a file that is full, locked or damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.telemetry import record_file
from gateway.telemetry.record_file import ROWS_PER_INSERT, RecordFile, row_of

NOW = 1_800_000_000.0


def line(id: str = "req_1", ended: float = NOW, **more: Any) -> bytes:
    """Return the log line of a call."""
    time = msgspec.to_builtins(msgspec.convert(ended, type=record_file.datetime, strict=False))
    fields = {"time": time, "id": id, "client": "", "key": None, "model": "m", "status": 200, "ms": 10.5, **more}
    return msgspec.json.encode(fields) + b"\n"


def ids(path: Path) -> list[str]:
    """Return the ids in a file, in their order."""
    with sqlite3.connect(path) as database:
        return [id for (id,) in database.execute("SELECT id FROM calls ORDER BY number")]


def test_row_has_the_columns_that_queries_use() -> None:
    attempts = [{"target": "a/x", "outcome": "500", "ms": 1.0}, {"target": "b/y", "outcome": "ok", "ms": 2.0}]
    source = line(
        key="app", team="search", end_user="u", client_id="mine", attempts=attempts, cost_usd=0.000000123, adjustments=["n:drop"]
    )
    row = row_of(source)
    assert row[:-1] == ("req_1", "mine", NOW, "app", "search", "u", "m", "\na/x\n\nb/y\n", 200, 10.5, 123, 0, 1)
    assert row[-1] == source[:-1]


def test_unknown_cost_differs_from_no_cost() -> None:
    assert row_of(line(cost_usd=None))[-4:-2] == (None, 1)
    assert row_of(line())[-4:-2] == (None, 0)
    assert row_of(line(cost_usd=0))[-4:-2] == (0, 0)


def test_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "calls.db"
    file = RecordFile(path, 60, 1 << 20)
    file.append([line()], NOW)
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}
    file.close()


@pytest.mark.parametrize("count", [1, ROWS_PER_INSERT - 1, ROWS_PER_INSERT, 2 * ROWS_PER_INSERT + 3])
def test_records_keep_their_order_in_groups_of_any_size(tmp_path: Path, count: int) -> None:
    file = RecordFile(tmp_path / "calls.db", 3600, 1 << 20)
    written = [f"req_{number}" for number in range(2 * count)]
    for batch in (written[:count], written[count:]):
        file.append([line(id) for id in batch], NOW)
    file.close()
    assert ids(tmp_path / "calls.db") == written


def test_old_records_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    file = RecordFile(path, 3600, 1 << 20)
    file.append([line("old", NOW - 3601), line("kept", NOW - 3599)], NOW)
    assert ids(path) == ["kept"]
    file.append([line("new", NOW)], NOW + 30)  # old records are not yet searched for
    file.append([line("newer", NOW + 70)], NOW + 70)
    assert ids(path) == ["new", "newer"]
    file.close()


def test_oldest_records_make_room_for_new_ones(tmp_path: Path) -> None:
    path, most = tmp_path / "calls.db", 256 << 10
    file = RecordFile(path, 3600, most)
    for batch in range(20):
        file.append([line(f"{batch}-{number}", message="x" * 2000) for number in range(20)], NOW)
    file.close()
    found = ids(path)
    assert 40 < len(found) < 130  # of 400 calls with 2 kB each
    assert found == [f"{batch}-{number}" for batch in range(20) for number in range(20)][-len(found) :]
    assert path.stat().st_size <= most


def test_a_size_below_that_of_an_empty_file_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    file = RecordFile(path, 3600, 1)
    file.append([line(), line("req_2")], NOW)
    assert ids(path) == []
    file.close()


def test_two_workers_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    files = [RecordFile(path, 3600, 1 << 20) for _ in range(2)]
    for number in range(4):
        files[number % 2].append([line(str(number))], NOW)
    assert ids(path) == ["0", "1", "2", "3"]
    for file in files:
        file.close()


def test_a_locked_file_is_an_error_and_works_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_file, "LOCK_TIMEOUT_S", 0.0)
    monkeypatch.setattr(record_file, "OPEN_PAUSE_S", 0.0)
    path = tmp_path / "calls.db"
    file = RecordFile(path, 3600, 1 << 20)
    file.append([line("before")], NOW)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        file.append([line("lost")], NOW)
    other.rollback()
    other.close()
    file.append([line("after")], NOW)
    assert ids(path) == ["before", "after"]
    file.close()


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "calls-1.db"
    path.write_bytes(b"this is no database" * 100)
    file = RecordFile(path, 3600, 1 << 20)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        file.append([line("lost")], NOW)
    file.append([line("kept")], NOW)
    assert ids(path) == ["kept"]
    assert (tmp_path / "calls-1.damaged").read_bytes().startswith(b"this is no database")
    file.close()

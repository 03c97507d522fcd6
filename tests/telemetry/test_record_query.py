"""Queries of past calls: every parameter selects calls, invalid ones are named, and totals cover all matching calls."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.telemetry.log_record import shown_user
from gateway.telemetry.record_file import SCHEMA, RecordFile
from gateway.telemetry.record_query import BadRecordQueryError, find_record, find_records, found_json, read_record_query
from tests.support.each import each
from tests.telemetry.test_record_file import NOW, line

TWO = [{"target": "a/x", "outcome": "500", "ms": 1.0}, {"target": "b/y", "outcome": "ok", "ms": 2.0}]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with four calls, each an hour before the next."""
    found = tmp_path_factory.mktemp("records") / "calls.db"
    file = RecordFile(found, 1e6, 1 << 20)
    lines = [
        line("1", NOW - 3 * 3600, key="app", team="search", ms=2500.0, attempts=TWO, cost_usd=0.25),
        line("2", NOW - 2 * 3600, key="app", end_user=shown_user("u'; --"), status=429, client_id="mine"),
        line("3", NOW - 3600, key="other", model="big", attempts=TWO[1:], cost_usd=0.5, adjustments=["n:drop"]),
        line("4", NOW, status=502, ms=2000.0, attempts=TWO[:1], cost_usd=None, client_id="mine"),
    ]
    file.append(lines, NOW)
    file.close()
    return found


def found(path: Path, **params: str) -> list[str]:
    """Return the ids of the calls that match."""
    records = find_records(path, read_record_query(params, NOW)).records
    return [msgspec.json.decode(record)["id"] for record in records]


@each(
    ("param", "value", "ids"),
    [
        ("key", "app", "21"), ("key", "ap", ""), ("key", "app' OR 1", ""), ("team", "search", "1"), ("user", "u'; --", "2"),
        ("user", shown_user("u'; --"), "2"),
        ("model", "big", "3"), ("target", "a/x", "41"), ("target", "b/y", "31"), ("target", "b", ""), ("target", "%", ""),
        ("status", "429", "2"), ("status", "5xx", "4"), ("status", "2xx", "31"), ("slow", "2s", "41"), ("slow", "2001ms", "1"),
        ("cost", "0.25", "31"), ("cost", "0.250000001", "3"), ("cost", "1", ""),
        ("since", "1h", "43"), ("since", "1d", "4321"), ("since", "2027-01-15T06:00:00Z", "432"), ("since", "2027-01-15", "4321"),
        ("since", "2027-01-15T08:00:00 02:00", "432"), ("until", "2h", "1"), ("adjusted", "true", "3"), ("adjusted", "false", "421"),
        ("sort", "cost", "3142"), ("sort", "ms", "1432"), ("sort", "time", "4321"), ("limit", "2", "43"),
    ],
)  # fmt: skip
def test_parameter_selects_and_sorts(path: Path, param: str, value: str, ids: str) -> None:
    expected = list(ids)
    assert sorted(found(path, **{param: value})) == sorted(expected)
    if param != "sort":
        assert found(path, **{param: value}) == expected
    else:
        assert found(path, sort=value)[:2] == expected[:2]


def test_parameters_are_joined(path: Path) -> None:
    assert found(path, key="app", slow="1s", target="b/y", since="4h", status="200") == ["1"]
    assert found(path, key="app", slow="1s", status="429") == []


@each(
    ("param", "value"),
    [
        ("status", "4XX"), ("status", "x"), ("status", "600"), ("status", ""), ("slow", "2"), ("slow", "fast"), ("since", "yesterday"),
        ("cost", ""), ("cost", "-1"), ("cost", "1e3"), ("cost", "1 USD"),
        ("since", "2026-13-01"), ("since", ""), ("until", "0001-01-01T00:00 24:00"), ("adjusted", "yes"), ("sort", "key"), ("limit", "0"),
        ("limit", "1001"), ("limit", "-1"), ("limit", "²"),
    ],
)  # fmt: skip
def test_bad_value_is_refused_with_its_parameter(param: str, value: str) -> None:
    with pytest.raises(BadRecordQueryError) as raised:
        read_record_query({param: value}, NOW)
    assert raised.value.param == param


def test_totals_are_those_of_all_calls_that_match(path: Path) -> None:
    answer = found_json(find_records(path, read_record_query({"limit": "1"}, NOW)))
    assert (len(answer["data"]), answer["has_more"]) == (1, True)
    assert answer["total"] == {"calls": 4, "cost_usd": 0.75, "unpriced": 1}
    assert found_json(find_records(path, read_record_query({}, NOW)))["has_more"] is False


def test_a_call_is_found_by_its_id_or_by_that_of_its_caller(path: Path) -> None:
    assert [[msgspec.json.decode(one)["id"] for one in find_record(path, id)] for id in ("3", "mine", "5")] == [["3"], ["2", "4"], []]


def test_without_a_file_there_are_no_calls(tmp_path: Path) -> None:
    query = read_record_query({}, NOW)
    assert found_json(find_records(tmp_path / "none.db", query))["total"]["calls"] == 0
    assert find_record(tmp_path / "none.db", "1") == []


@pytest.mark.parametrize("statements", [0, 5, 6])
def test_a_file_that_is_being_created_has_no_calls(tmp_path: Path, statements: int) -> None:
    path = tmp_path / "calls.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(";".join(SCHEMA.split(";")[:statements]))
    assert find_records(path, read_record_query({}, NOW)).calls == 0
    assert find_record(path, "1") == []

"""Queries of past calls: the parameters of `GET /admin/calls`, and the records that match them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Raw, Struct

from gateway.config.formats import read_duration, read_lifetime
from gateway.telemetry.log_record import shown_user
from gateway.telemetry.record_file import LOCK_TIMEOUT_S, NANO_PER_USD

DEFAULT_COUNT, MAX_COUNT = 50, 1000
SORTS = {"time": "ended", "ms": "ms", "cost": "cost"}
NAMES = ("key", "team", "user", "model", "target")
PARAMS = (*NAMES, "status", "slow", "cost", "since", "until", "adjusted", "sort", "limit")


class BadRecordQueryError(ValueError):
    """A parameter has an invalid value."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class RecordQuery(Struct, frozen=True):
    """A condition in SQL with its values, the order, and the maximum number of records."""

    where: str
    values: tuple[Any, ...]
    order: str
    count: int


class FoundRecords(Struct, frozen=True):
    """The first records that match, and the totals of all that match."""

    records: list[Raw]
    calls: int
    cost: int
    """The sum of the known costs in nano-dollars."""
    unpriced: int
    """Number of calls whose cost is not known completely."""


def read_record_query(params: Mapping[str, str], now: float) -> RecordQuery:
    """Return the query of these parameters. `now` is the time in seconds. Raise BadRecordQueryError if a parameter is invalid."""
    conditions: list[tuple[str, tuple[Any, ...]]] = []
    for name in NAMES:
        if name in params:
            column = "instr(targets, char(10) || ? || char(10)) > 0" if name == "target" else f"{name} = ?"
            value = shown_user(params[name]) if name == "user" else params[name]
            conditions.append((column, (value,)))
    if "status" in params:
        conditions.append(("status BETWEEN ? AND ?", _read_statuses(params["status"])))
    if "slow" in params:
        conditions.append(("ms >= ?", (_read(read_duration, params, "slow") * 1000,)))
    if "cost" in params:
        conditions.append(("cost >= ?", (_read_dollars(params["cost"]),)))
    for name, comparison in (("since", "ended >= ?"), ("until", "ended < ?")):
        if name in params:
            conditions.append((comparison, (_read_time(params[name], name, now),)))
    if "adjusted" in params:
        if params["adjusted"] not in ("true", "false"):
            raise BadRecordQueryError("adjusted", "expected true or false")
        conditions.append(("adjusted = ?", (int(params["adjusted"] == "true"),)))
    sort, limit = params.get("sort", "time"), params.get("limit", str(DEFAULT_COUNT))
    if sort not in SORTS:
        raise BadRecordQueryError("sort", f"expected one of {', '.join(SORTS)}")
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MAX_COUNT:
        raise BadRecordQueryError("limit", f"expected a number from 1 to {MAX_COUNT}")
    where = " AND ".join(condition for condition, _ in conditions) or "1"
    values = tuple(value for _, values in conditions for value in values)
    return RecordQuery(where, values, f"{SORTS[sort]} DESC, number DESC", int(limit))


def _read(read: Any, params: Mapping[str, str], name: str) -> float:
    try:
        return float(read(params[name]))
    except ValueError as error:
        raise BadRecordQueryError(name, str(error)) from None


def _read_statuses(text: str) -> tuple[int, int]:
    """Return the first and the last of the statuses that a text such as `429` or `4xx` selects."""
    if re.fullmatch(r"[1-5]xx", text):
        return int(text[0]) * 100, int(text[0]) * 100 + 99
    if not re.fullmatch(r"[1-5][0-9]{2}", text):
        raise BadRecordQueryError("status", "expected a status such as 429, or a class such as 5xx")
    return int(text), int(text)


def _read_dollars(text: str) -> int:
    """Return an amount in dollars, such as `0.01`, in nano-dollars."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise BadRecordQueryError("cost", "expected an amount in USD, such as 0.01")
    return round(float(text) * NANO_PER_USD)


def _read_time(text: str, name: str, now: float) -> float:
    """Return the time that a text states: a duration before now, such as `2h` or `1d`, or a date or time in ISO 8601, in UTC by default."""
    try:
        return now - read_lifetime(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign in a query is decoded as a space
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        message = "expected a duration such as 2h or 1d, or a time such as 2026-11-28 or 2026-11-28T14:00:00Z"
        raise BadRecordQueryError(name, message) from None


def find_records(path: Path, query: RecordQuery) -> FoundRecords:
    """Return the records that match. Raise sqlite3.Error if the file cannot be read."""
    with _reading(path) as database:
        if database is None:
            return FoundRecords([], 0, 0, 0)
        total = f"SELECT count(*), coalesce(sum(cost), 0), coalesce(sum(unpriced), 0) FROM calls WHERE {query.where}"
        calls, cost, unpriced = database.execute(total, query.values).fetchone()
        select = f"SELECT line FROM calls WHERE {query.where} ORDER BY {query.order} LIMIT ?"
        lines = database.execute(select, (*query.values, query.count)).fetchall()
    return FoundRecords([Raw(line) for (line,) in lines], calls, cost, unpriced)


def find_record(path: Path, id: str) -> list[Raw]:
    """Return at most DEFAULT_COUNT records: those whose request id is `id`, and those to which the caller gave this id.

    Raise sqlite3.Error if the file cannot be read.
    """
    with _reading(path) as database:
        if database is None:
            return []
        select = "SELECT line FROM calls WHERE id = ? UNION ALL SELECT line FROM calls WHERE client_id = ? LIMIT ?"
        return [Raw(line) for (line,) in database.execute(select, (id, id, DEFAULT_COUNT))]


def find_content(path: Path, id: str, written_after: float) -> Raw | None:
    """Return the captured content of the call with this request id if it was written since `written_after`, else None.

    Raise sqlite3.Error if the file cannot be read.
    """
    with _reading(path) as database:
        if database is None:
            return None
        select = "SELECT content FROM contents WHERE id = ? AND written >= ? LIMIT 1"
        row = database.execute(select, (id, written_after)).fetchone()
    return Raw(row[0]) if row is not None else None


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Yield the file, opened for reading, or None if no call has been recorded."""
    if not path.exists():
        yield None
        return
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=LOCK_TIMEOUT_S, uri=True)) as database:
        # A worker that creates the file adds the contents table after the table of calls.
        tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('calls', 'contents')").fetchone()
        yield database if tables == (2,) else None


def found_json(found: FoundRecords) -> dict[str, Any]:
    """Return the found records as the response of `GET /admin/calls`."""
    total = {"calls": found.calls, "cost_usd": found.cost / NANO_PER_USD, "unpriced": found.unpriced}
    return {"object": "list", "data": found.records, "has_more": found.calls > len(found.records), "total": total}

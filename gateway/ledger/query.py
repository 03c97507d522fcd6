"""How the ledger is read: sums over days and everything else that is not asked for, as JSON, CSV or a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal, get_args

import msgspec

from gateway.ledger.counters import KEPT_DAYS, Numbers, Row, together

By = Literal["key", "team", "model", "target", "day"]
NANO = 1_000_000_000
COLUMNS = ("requests", "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_nanodollars", "estimated")


class BadQuery(ValueError):
    """A question that cannot be answered; `param` is its fault."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Query(msgspec.Struct, frozen=True):
    """What is asked: sums by what, over which UTC days, both included."""

    by: By
    start: date
    end: date

    def days(self) -> list[str]:
        """Every day."""
        return [str(self.start + timedelta(days=more)) for more in range((self.end - self.start).days + 1)]


def read_query(params: Mapping[str, str], today: date) -> Query:
    """`by`, `from` and `to`; by key, from the month's first day to today when left out. BadQuery."""
    by = params.get("by", "key")
    if by not in get_args(By):
        raise BadQuery("by", f"'{by[:40]}' is none of {', '.join(get_args(By))}")
    end = _day("to", params["to"]) if "to" in params else today
    start = _day("from", params["from"]) if "from" in params else min(end, today).replace(day=1)
    if start > end:
        raise BadQuery("from", f"{start} is after {end}")
    if (end - start).days >= KEPT_DAYS:
        raise BadQuery("from", f"at most {KEPT_DAYS} days can be asked for at once")
    return Query(by, start, end)  # type: ignore[arg-type]


def _day(param: str, text: str) -> date:
    try:
        if len(text) != 10 or "W" in text:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise BadQuery(param, f"'{text[:40]}' is no date such as 2026-11-21") from None


class Sum(msgspec.Struct, frozen=True):
    """One line of an answer."""

    name: str
    numbers: Numbers


def sums(rows: Mapping[Row, Numbers], query: Query) -> list[Sum]:
    """One for each value of what was asked by, days in order, else the dearest first."""
    found: dict[str, Numbers] = {}
    first, last = str(query.start), str(query.end)
    for row, numbers in rows.items():
        if first <= row.day <= last:
            name = getattr(row, query.by)
            found[name] = together(found[name], numbers) if name in found else numbers
    lines = [Sum(name, numbers) for name, numbers in found.items()]
    return sorted(lines, key=lambda one: one.name if query.by == "day" else (-one.numbers.cost, -one.numbers.requests, one.name))


def total(lines: Iterable[Sum]) -> Numbers:
    """All lines together."""
    whole = Numbers()
    for line in lines:
        whole = together(whole, line.numbers)
    return whole


def as_json(lines: Sequence[Sum], query: Query, source: str) -> dict[str, Any]:
    """The whole answer. `source`: `store` for all processes that share one, `process` for the one that was asked."""
    rows = [{query.by: line.name, **fields(line.numbers)} for line in lines]
    return {
        "by": query.by,
        "from": str(query.start),
        "to": str(query.end),
        "source": source,
        "rows": rows,
        "total": fields(total(lines)),
    }


def fields(numbers: Numbers) -> dict[str, Any]:
    """Numbers by their names; `estimated` is how many bookings had no usage of the provider's own."""
    values = (numbers.requests, numbers.prompt, numbers.cached, numbers.output, numbers.reasoning, numbers.cost, numbers.estimated)
    found: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
    return {**found, "cost_usd": numbers.cost / NANO}


def as_csv(lines: Sequence[Sum], query: Query) -> str:
    """A header and one line each. A name that a spreadsheet would take for a formula gets a quote in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([query.by, *COLUMNS, "cost_usd"])
    for line in lines:
        values = fields(line.numbers)
        writer.writerow([_harmless(line.name), *(values[column] for column in COLUMNS), usd(line.numbers.cost)])
    return out.getvalue()


def usd(nano: int) -> str:
    """Nano-dollars as dollars, all nine places."""
    return f"{nano // NANO}.{nano % NANO:09d}"


def _harmless(name: str) -> str:
    return "'" + name if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name

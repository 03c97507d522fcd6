"""How the ledger is read: sums over days and everything else that is not asked for, as JSON, CSV or a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal, get_args

import msgspec

from gateway.ledger.counters import KEPT_DAYS, UsageCounts, UsageRow, add_counts

GroupBy = Literal["key", "team", "model", "target", "day"]
NANO_PER_USD = 1_000_000_000
COLUMNS = ("requests", "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_nanodollars", "estimated")


class BadQueryError(ValueError):
    """A question that cannot be answered; `param` is its fault."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class UsageQuery(msgspec.Struct, frozen=True):
    """What is asked: sums by what, over which UTC days, both included."""

    group_by: GroupBy
    start: date
    end: date

    def days(self) -> list[str]:
        """Every day."""
        return [str(self.start + timedelta(days=more)) for more in range((self.end - self.start).days + 1)]


def read_query(params: Mapping[str, str], today: date) -> UsageQuery:
    """`by`, `from` and `to`; by key, from the month's first day to today when left out. BadQuery."""
    by = params.get("by", "key")
    if by not in get_args(GroupBy):
        raise BadQueryError("by", f"'{by[:40]}' is none of {', '.join(get_args(GroupBy))}")
    end = _day("to", params["to"]) if "to" in params else today
    start = _day("from", params["from"]) if "from" in params else min(end, today).replace(day=1)
    if start > end:
        raise BadQueryError("from", f"{start} is after {end}")
    if (end - start).days >= KEPT_DAYS:
        raise BadQueryError("from", f"at most {KEPT_DAYS} days can be asked for at once")
    return UsageQuery(by, start, end)  # type: ignore[arg-type]


def _day(param: str, text: str) -> date:
    try:
        if len(text) != 10 or "W" in text:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise BadQueryError(param, f"'{text[:40]}' is no date such as 2026-11-21") from None


class UsageSum(msgspec.Struct, frozen=True):
    """One line of an answer."""

    name: str
    numbers: UsageCounts


def sum_usage(rows: Mapping[UsageRow, UsageCounts], query: UsageQuery) -> list[UsageSum]:
    """One for each value of what was asked by, days in order, else the dearest first."""
    found: dict[str, UsageCounts] = {}
    first, last = str(query.start), str(query.end)
    for row, numbers in rows.items():
        if first <= row.day <= last:
            name = getattr(row, query.group_by)
            found[name] = add_counts(found[name], numbers) if name in found else numbers
    lines = [UsageSum(name, numbers) for name, numbers in found.items()]
    return sorted(lines, key=lambda one: one.name if query.group_by == "day" else (-one.numbers.cost, -one.numbers.requests, one.name))


def total(lines: Iterable[UsageSum]) -> UsageCounts:
    """All lines together."""
    whole = UsageCounts()
    for line in lines:
        whole = add_counts(whole, line.numbers)
    return whole


def usage_json(lines: Sequence[UsageSum], query: UsageQuery, source: str) -> dict[str, Any]:
    """The whole answer. `source`: `store` for all processes that share one, `process` for the one that was asked."""
    rows = [{query.group_by: line.name, **json_fields(line.numbers)} for line in lines]
    return {
        "by": query.group_by,
        "from": str(query.start),
        "to": str(query.end),
        "source": source,
        "rows": rows,
        "total": json_fields(total(lines)),
    }


def json_fields(numbers: UsageCounts) -> dict[str, Any]:
    """Numbers by their names; `estimated` is how many bookings had no usage of the provider's own."""
    values = (numbers.requests, numbers.prompt, numbers.cached, numbers.output, numbers.reasoning, numbers.cost, numbers.estimated)
    found: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
    return {**found, "cost_usd": numbers.cost / NANO_PER_USD}


def usage_csv(lines: Sequence[UsageSum], query: UsageQuery) -> str:
    """A header and one line each. A name that a spreadsheet would take for a formula gets a quote in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([query.group_by, *COLUMNS, "cost_usd"])
    for line in lines:
        values = json_fields(line.numbers)
        writer.writerow([_escape_formula(line.name), *(values[column] for column in COLUMNS), format_usd(line.numbers.cost)])
    return out.getvalue()


def format_usd(nano: int) -> str:
    """Nano-dollars as dollars, all nine places."""
    return f"{nano // NANO_PER_USD}.{nano % NANO_PER_USD:09d}"


def _escape_formula(name: str) -> str:
    return "'" + name if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name

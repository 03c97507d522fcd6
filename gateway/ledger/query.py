"""Queries of the ledger: sums of usage over days, grouped by one column, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal, get_args

import msgspec

from gateway.ledger.counters import KEPT_DAYS, UsageCounts, UsageRow, add_counts

GroupBy = Literal["key", "team", "model", "target", "day", "tag"]
NANO_PER_USD = 1_000_000_000
COLUMNS = (
    "requests", "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_nanodollars", "estimated", "unpriced",
    "brought_cost_nanodollars",
)  # fmt: skip


class BadQueryError(ValueError):
    """The query parameter `param` is invalid."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class UsageQuery(msgspec.Struct, frozen=True):
    """A query: the column to group by, and the first and last UTC day."""

    group_by: GroupBy
    start: date
    end: date

    def days(self) -> list[str]:
        """Return every day of the query."""
        return [str(self.start + timedelta(days=offset)) for offset in range((self.end - self.start).days + 1)]


def read_query(params: Mapping[str, str], today: date) -> UsageQuery:
    """Read `by`, `from` and `to`. Raise BadQueryError if one is invalid.

    Defaults: `by` is `key`, `to` is today, and `from` is the first day of the month of `to` or, if that is earlier, of the
    current month.
    """
    by = params.get("by", "key")
    if by not in get_args(GroupBy):
        raise BadQueryError("by", f"'{by[:40]}' is not a column: use {', '.join(get_args(GroupBy))}")
    end = _day("to", params["to"]) if "to" in params else today
    start = _day("from", params["from"]) if "from" in params else min(end, today).replace(day=1)
    if start > end:
        raise BadQueryError("from", f"{start} is after the last day, {end}: choose an earlier first day")
    if (end - start).days >= KEPT_DAYS:
        raise BadQueryError("from", f"the range exceeds {KEPT_DAYS} days: choose a later first day")
    return UsageQuery(by, start, end)  # type: ignore[arg-type]


def _day(param: str, text: str) -> date:
    try:
        if len(text) != 10 or "W" in text:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise BadQueryError(param, f"'{text[:40]}' is not a date: use the form 2026-11-21") from None


class UsageSum(msgspec.Struct, frozen=True):
    """Usage of one group: a value of the grouping column, and the counts of its rows."""

    name: str
    counts: UsageCounts


def sum_usage(rows: Mapping[UsageRow, UsageCounts], query: UsageQuery) -> list[UsageSum]:
    """Sum rows by the column of the query. Sort days by date, and the values of other columns by descending cost.

    In a query by tag, a call with several tags counts once for each tag.
    """
    sums: dict[str, UsageCounts] = {}
    first, last = str(query.start), str(query.end)
    for row, counts in rows.items():
        if first <= row.day <= last:
            for name in row.tags.split(",") if query.group_by == "tag" else (getattr(row, query.group_by),):
                sums[name] = add_counts(sums[name], counts) if name in sums else counts
    lines = [UsageSum(name, counts) for name, counts in sums.items()]
    return sorted(lines, key=lambda line: line.name if query.group_by == "day" else (-line.counts.cost, -line.counts.requests, line.name))


def total(rows: Mapping[UsageRow, UsageCounts], query: UsageQuery) -> UsageCounts:
    """Return the total of the rows of a query. Each call counts once, however many tags it has."""
    sums, first, last = UsageCounts(), str(query.start), str(query.end)
    for row, counts in rows.items():
        if first <= row.day <= last:
            sums = add_counts(sums, counts)
    return sums


def usage_json(lines: Sequence[UsageSum], query: UsageQuery, source: str, whole: UsageCounts) -> dict[str, Any]:
    """Return the response of the usage API. `whole` is the total of all rows.

    `source` states whose usage the rows contain: `store` (all processes that share the store), `process` (this process),
    `workers` (all workers of this gateway) or `some_workers` (the workers that answered).
    """
    rows = [{query.group_by: line.name, **json_fields(line.counts)} for line in lines]
    return {
        "by": query.group_by,
        "from": str(query.start),
        "to": str(query.end),
        "source": source,
        "rows": rows,
        "total": json_fields(whole),
    }


def json_fields(counts: UsageCounts) -> dict[str, Any]:
    """Return counts by column name. `estimated` counts bookings with estimated usage, `unpriced` those with unknown cost."""
    columns: dict[str, Any] = dict(zip(COLUMNS, counts, strict=True))
    return {**columns, "cost_usd": counts.cost / NANO_PER_USD}


def usage_csv(lines: Sequence[UsageSum], query: UsageQuery) -> str:
    """Return CSV with a header. Names that a spreadsheet would read as formulas are prefixed with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([query.group_by, *COLUMNS, "cost_usd"])
    for line in lines:
        values = json_fields(line.counts)
        writer.writerow([_escape_formula(line.name), *(values[column] for column in COLUMNS), format_usd(line.counts.cost)])
    return out.getvalue()


def format_usd(nano: int) -> str:
    """Format nano-dollars as dollars with nine decimal places."""
    return f"{nano // NANO_PER_USD}.{nano % NANO_PER_USD:09d}"


def _escape_formula(name: str) -> str:
    return "'" + name if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name

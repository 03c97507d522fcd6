"""Lines of a journal: JSON arrays, one record each. Rows, budgets and windows are declared once and then referenced by number.

    ["r", 3, incarnation, day, key, team, model, target]        row 3; if the calls have tags, they follow
    ["b", 4, incarnation, key, period]                           budget 4
    ["l", 5, incarnation, key]                                   window 5 of requests or tokens
    ["w", [[5, slot, amount], ...]]                              current amounts of slots of windows
    ["p", [[id, 3, [counts], [4, ...]], ...]]                    calls in flight: usage so far, row and budgets of each
    ["c", [[3, requests, ..., brought_cost], ...], [[4, nano-dollars], ...], [id, ...]]
                                                                 current totals of rows and budgets, and calls of "p" that ended

Records hold totals, not differences, so an incomplete last line loses only its own content. The line that books a call
also removes it from the calls in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.ledger.counters import UsageCounts, UsageRow, add_counts
from gateway.store.settled_spend import SpendEntry
from gateway.store.window_usage import WindowEntry

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


FIRST_COUNTS = 7
"""Number of counts of a row in the first version of the journal."""


class CallProgress(msgspec.Struct, frozen=True):
    """Usage so far of a call in flight, and the budgets (keys and periods) to which the usage is charged."""

    id: str
    row: UsageRow
    counts: UsageCounts
    budgets: tuple[tuple[str, int], ...] = ()


class JournalContents(msgspec.Struct):
    """Content of a journal: rows and settled spend by incarnation, including calls that were in flight when the process ended."""

    rows: dict[tuple[str, UsageRow], UsageCounts] = {}
    spend: dict[tuple[str, str, int], int] = {}
    windows: dict[tuple[str, str, int], int] = {}
    """Amounts that were charged to windows, by incarnation, key and slot."""
    damaged: int = 0
    """Number of invalid lines, such as the last line of a process that was killed."""

    def spend_entries(self) -> list[SpendEntry]:
        """Return the settled spend as entries."""
        return [SpendEntry(*key, amount) for key, amount in self.spend.items()]

    def window_entries(self) -> list[WindowEntry]:
        """Return the charges to windows as entries."""
        return [WindowEntry(*key, amount) for key, amount in self.windows.items()]


class Numbering:
    """The numbers of rows, budgets and windows in one file, which are assigned at first use."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}

    def row(self, incarnation: str, row: UsageRow, lines: list[bytes]) -> int:
        """Return the number of a row. If the row is new, add its declaration to `lines`."""
        return self._number(("r", incarnation, *row.names()), lines)

    def budget(self, incarnation: str, key: str, period: int, lines: list[bytes]) -> int:
        """Return the number of a budget. If the budget is new, add its declaration to `lines`."""
        return self._number(("b", incarnation, key, period), lines)

    def window(self, incarnation: str, key: str, lines: list[bytes]) -> int:
        """Return the number of a window. If the window is new, add its declaration to `lines`."""
        return self._number(("l", incarnation, key), lines)

    def _number(self, name: tuple[Any, ...], lines: list[bytes]) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._numbers)
            lines.append(_encode((name[0], number, *name[1:])))
        return number


RowCopy = tuple[str, UsageRow, UsageCounts]
"""Incarnation, row and counts."""


def write_totals(
    numbering: Numbering,
    rows: Iterable[RowCopy],
    spend: Iterable[SpendEntry],
    ended_ids: Sequence[str],
    lines: list[bytes],
) -> None:
    """Add to `lines` the totals of rows and budgets, and the ids of ended calls that the totals include."""
    totals = [(numbering.row(incarnation, row, lines), *counts) for incarnation, row, counts in rows]
    settled = [(numbering.budget(entry.incarnation, entry.key, entry.period, lines), entry.amount) for entry in spend]
    lines.append(_encode(("c", totals, settled, ended_ids)))


def write_windows(numbering: Numbering, entries: Iterable[WindowEntry], lines: list[bytes]) -> None:
    """Add to `lines` the amounts of these slots of windows, and the declarations of new windows."""
    amounts = [(numbering.window(entry.incarnation, entry.key, lines), entry.slot, entry.amount) for entry in entries]
    if amounts:
        lines.append(_encode(("w", amounts)))


def write_progress(numbering: Numbering, incarnation: str, calls: Iterable[CallProgress], lines: list[bytes]) -> None:
    """Add to `lines` the current usage of all calls in flight."""
    entries = []
    for call in calls:
        row = numbering.row(incarnation, call.row, lines)
        entries.append((call.id, row, call.counts, [numbering.budget(incarnation, *budget, lines) for budget in call.budgets]))
    lines.append(_encode(("p", entries)))


def read_journal(data: bytes) -> JournalContents:
    """Read a journal. Count and skip invalid lines."""
    reader = _Reader()
    for line in data.split(b"\n"):
        if line:
            try:
                reader.take(_decode(line))
            except (msgspec.DecodeError, LookupError, TypeError, ValueError):
                reader.contents.damaged += 1
    return reader.end()


class _Reader:
    def __init__(self) -> None:
        self.contents = JournalContents()
        self._rows: dict[int, tuple[str, UsageRow]] = {}
        self._budgets: dict[int, tuple[str, str, int]] = {}
        self._windows: dict[int, tuple[str, str]] = {}
        self._in_flight: dict[str, tuple[int, UsageCounts, list[int]]] = {}

    def take(self, record: list[Any]) -> None:
        kind, *rest = record
        if kind == "c":
            rows, spend, ended_ids = rest
            for number, *counts in rows:
                self.contents.rows[self._rows[number]] = _counts(counts)
            for number, amount in spend:
                self.contents.spend[self._budgets[number]] = int(amount)
            for id in ended_ids:
                self._in_flight.pop(id, None)
        elif kind == "p":
            self._in_flight = {id: (row, _counts(numbers), budgets) for id, row, numbers, budgets in rest[0]}
        elif kind == "w":
            for number, slot, amount in rest[0]:
                self.contents.windows[*self._windows[number], int(slot)] = int(amount)
        elif kind == "l":
            number, incarnation, key = rest
            self._windows[number] = (incarnation, key)
        elif kind == "r":
            number, incarnation, *names = rest
            self._rows[number] = (incarnation, UsageRow(*names))
        elif kind == "b":
            number, incarnation, key, period = rest
            self._budgets[number] = (incarnation, key, period)

    def end(self) -> JournalContents:
        """Return the content, with the last recorded usage of calls that did not end."""
        contents = self.contents
        for row, counts, budgets in self._in_flight.values():
            if row in self._rows:
                key = self._rows[row]
                contents.rows[key] = add_counts(contents.rows.get(key, UsageCounts()), counts)
            for number in budgets:
                if number in self._budgets:
                    budget = self._budgets[number]
                    contents.spend[budget] = contents.spend.get(budget, 0) + counts.cost
        return contents


def _counts(values: Sequence[Any]) -> UsageCounts:
    counts = UsageCounts(*map(int, values))  # a journal of an earlier version may have fewer counts
    if len(values) < FIRST_COUNTS or min(counts) < 0:
        raise ValueError("invalid counts of a row")
    return counts

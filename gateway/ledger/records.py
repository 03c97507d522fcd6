"""The journal's lines: JSON arrays, one record each, whose names are declared once and then meant by their number.

    ["r", 3, incarnation, day, key, team, model, target]        row 3
    ["b", 4, incarnation, key, period]                           budget 4
    ["p", [[id, 3, [numbers], [4, ...]], ...]]                   calls under way: what each used so far, of which row and budgets
    ["c", [[3, requests, ..., estimated], ...], [[4, nano-dollars], ...], [id, ...]]
                                                                 rows and budgets as they are now, with the calls of "p" that ended

Numbers only grow, so a line that is missing or torn costs what it had to say and nothing else. A call that ended leaves "p" in the very
line that books it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.ledger.counters import UsageCounts, UsageRow, add_counts
from gateway.store.settled_spend import SpendEntry

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class CallProgress(msgspec.Struct, frozen=True):
    """A call under way: what it used so far, and the budgets (keys and periods) that pay for it."""

    id: str
    row: UsageRow
    numbers: UsageCounts
    budgets: tuple[tuple[str, int], ...] = ()


class JournalContents(msgspec.Struct):
    """What a journal says: each incarnation's rows and shares of budgets, calls that its process left unfinished included."""

    rows: dict[tuple[str, UsageRow], UsageCounts] = {}
    spend: dict[tuple[str, str, int], int] = {}
    damaged: int = 0
    """Lines that cannot be read; the last one of a process that was killed may be among them."""

    def spend_entries(self) -> list[SpendEntry]:
        """The shares of budgets as such."""
        return [SpendEntry(*at, amount) for at, amount in self.spend.items()]


class Numbering:
    """Numbers for names, as they are first met while a file is written."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}

    def row(self, incarnation: str, row: UsageRow, lines: list[bytes]) -> int:
        """A row's number; its declaration is added to `lines` when it is new."""
        return self._number(("r", incarnation, *row), lines)

    def budget(self, incarnation: str, key: str, period: int, lines: list[bytes]) -> int:
        """A budget's number."""
        return self._number(("b", incarnation, key, period), lines)

    def _number(self, name: tuple[Any, ...], lines: list[bytes]) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._numbers)
            lines.append(_encode((name[0], number, *name[1:])))
        return number


RowCopy = tuple[str, UsageRow, UsageCounts]
"""An incarnation's numbers of a row."""


def write_totals(numbering: Numbering, rows: Iterable[RowCopy], shares: Iterable[SpendEntry], done: Sequence[str], lines: list[bytes]) -> None:
    """Rows and budgets as they are now, and the calls under way that ended with it."""
    numbers = [(numbering.row(incarnation, row, lines), *known) for incarnation, row, known in rows]
    settled = [(numbering.budget(one.incarnation, one.key, one.period, lines), one.amount) for one in shares]
    lines.append(_encode(("c", numbers, settled, done)))


def write_progress(numbering: Numbering, incarnation: str, calls: Iterable[CallProgress], lines: list[bytes]) -> None:
    """All calls under way."""
    entries = []
    for call in calls:
        row = numbering.row(incarnation, call.row, lines)
        entries.append((call.id, row, call.numbers, [numbering.budget(incarnation, *at, lines) for at in call.budgets]))
    lines.append(_encode(("p", entries)))


def read_journal(data: bytes) -> JournalContents:
    """What the lines of a journal say; those that cannot be read are counted and left out."""
    reading = _Reader()
    for line in data.split(b"\n"):
        if line:
            try:
                reading.take(_decode(line))
            except (msgspec.DecodeError, LookupError, TypeError, ValueError):
                reading.found.damaged += 1
    return reading.end()


class _Reader:
    def __init__(self) -> None:
        self.found = JournalContents()
        self._rows: dict[int, tuple[str, UsageRow]] = {}
        self._budgets: dict[int, tuple[str, str, int]] = {}
        self._under_way: dict[str, tuple[int, UsageCounts, list[int]]] = {}

    def take(self, record: list[Any]) -> None:
        kind, *rest = record
        if kind == "c":
            rows, shares, done = rest
            for number, *numbers in rows:
                self.found.rows[self._rows[number]] = _counts(numbers)
            for number, amount in shares:
                self.found.spend[self._budgets[number]] = int(amount)
            for id in done:
                self._under_way.pop(id, None)
        elif kind == "p":
            self._under_way = {id: (row, _counts(numbers), budgets) for id, row, numbers, budgets in rest[0]}
        elif kind == "r":
            number, incarnation, *names = rest
            self._rows[number] = (incarnation, UsageRow(*names))
        elif kind == "b":
            number, incarnation, key, period = rest
            self._budgets[number] = (incarnation, key, period)

    def end(self) -> JournalContents:
        """With what the calls that nobody ended had used by the last record."""
        found = self.found
        for row, numbers, budgets in self._under_way.values():
            if row in self._rows:
                at = self._rows[row]
                found.rows[at] = add_counts(found.rows.get(at, UsageCounts()), numbers)
            for budget in budgets:
                if budget in self._budgets:
                    share = self._budgets[budget]
                    found.spend[share] = found.spend.get(share, 0) + numbers.cost
        return found


def _counts(values: Sequence[Any]) -> UsageCounts:
    numbers = UsageCounts(*map(int, values))
    if len(values) != len(UsageCounts._fields) or min(numbers) < 0:
        raise ValueError("not a row's numbers")
    return numbers

"""What was used, as counters that only grow (a G-counter): one row for each day, key, team, model and target, one set of rows for each
incarnation of a process.

A process adds to its own rows alone. Whoever hears of a row twice, late, or from an older copy keeps the larger numbers, so that rows can
be told to a store, written to a journal and read back as often as need be: nothing is lost, nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

OTHER = "other"
MOST_ROWS = 20_000
"""Rows of one day in one process; combinations of names beyond that are booked as `other`."""
KEPT_DAYS = 400


class Row(NamedTuple):
    """What was used by whom: a UTC day (2026-11-21), a key's name, its team, a model of the configuration, a target."""

    day: str
    key: str
    team: str
    model: str
    target: str


class Numbers(NamedTuple):
    """What is counted of a row. `cost` in nano-dollars; `cached` is part of `prompt`, `reasoning` of `output`."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cost: int = 0
    estimated: int = 0
    """Bookings whose tokens the provider did not report."""


def larger(one: Sequence[int], other: Sequence[int]) -> Numbers:
    """Of two copies of a row's numbers the later one, number by number."""
    return Numbers(*map(max, one, other))


def together(one: Sequence[int], other: Sequence[int]) -> Numbers:
    """The sum of both."""
    return Numbers(*(a + b for a, b in zip(one, other, strict=True)))


class Counters:
    """The rows of this incarnation, and of those before it that are no more."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._own: dict[Row, list[int]] = {}
        self._left: dict[Row, dict[str, Numbers]] = {}
        self._rows_of: dict[str, int] = {}
        self.unsaid: set[Row] = set()
        """Changed since a store was told."""
        self.unwritten: set[Row] = set()
        """Changed since the journal had it."""

    def add(self, row: Row, numbers: Numbers) -> Row:
        """Book more of a row; the row that it was booked to."""
        known = self._own.get(row)
        if known is None:
            count = self._rows_of.get(row.day, 0)
            if count >= MOST_ROWS and row.model != OTHER:
                return self.add(Row(row.day, row.key, row.team, OTHER, OTHER), numbers)
            self._rows_of[row.day] = count + 1
            self._own[row] = list(numbers)
        else:  # in place and without a loop: this is done for every call
            requests, prompt, cached, output, reasoning, cost, estimated = numbers
            known[0] += requests
            known[1] += prompt
            known[2] += cached
            known[3] += output
            known[4] += reasoning
            known[5] += cost
            known[6] += estimated
        self.unsaid.add(row)
        self.unwritten.add(row)
        return row

    def recover(self, incarnation: str, row: Row, numbers: Sequence[int]) -> None:
        """Take over a row of an incarnation that is no more; an older copy changes nothing."""
        left = self._left.setdefault(row, {})
        left[incarnation] = larger(left.get(incarnation, Numbers()), numbers)

    def copies(self, row: Row) -> Iterator[tuple[str, Numbers]]:
        """What is known of a row, by incarnation."""
        yield from self._left.get(row, {}).items()
        if row in self._own:
            yield self.incarnation, Numbers(*self._own[row])

    def all(self) -> Iterator[tuple[str, Row, Numbers]]:
        """Everything that is known."""
        for row in {**self._left, **self._own}:
            for incarnation, numbers in self.copies(row):
                yield incarnation, row, numbers

    def mine(self, row: Row) -> Numbers:
        """This incarnation's numbers."""
        return Numbers(*self._own.get(row, ()))

    def forget(self, before: str) -> None:
        """Drop the rows of days before this one."""
        self._own = {row: numbers for row, numbers in self._own.items() if row.day >= before}
        self._left = {row: left for row, left in self._left.items() if row.day >= before}
        self._rows_of = {day: count for day, count in self._rows_of.items() if day >= before}


def merge(copies: Iterable[tuple[str, Row, Sequence[int]]]) -> dict[Row, Numbers]:
    """The sums over incarnations, of any number of copies in any order."""
    latest: dict[tuple[str, Row], Numbers] = {}
    for incarnation, row, numbers in copies:
        at = (incarnation, row)
        latest[at] = larger(latest[at], numbers) if at in latest else Numbers(*numbers)
    sums: dict[Row, Numbers] = {}
    for (_, row), numbers in latest.items():
        sums[row] = together(sums[row], numbers) if row in sums else numbers
    return sums

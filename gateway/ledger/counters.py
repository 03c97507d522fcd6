"""What was used, as counters that only grow (a G-counter): one row for each day, key, team, model and target, one set of rows for each
incarnation of a process.

A process adds to its own rows alone. Whoever hears of a row twice, late, or from an older copy keeps the larger numbers, so that rows can
be told to a store, written to a journal and read back as often as need be: nothing is lost, nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

OTHER = "other"
MAX_ROWS_PER_DAY = 20_000
"""Rows of one day in one process; combinations of names beyond that are booked as `other`."""
KEPT_DAYS = 400


class UsageRow(NamedTuple):
    """What was used by whom: a UTC day (2026-11-21), a key's name, its team, a model of the configuration, a target."""

    day: str
    key: str
    team: str
    model: str
    target: str


class UsageCounts(NamedTuple):
    """What is counted of a row. `cost` in nano-dollars; `cached` is part of `prompt`, `reasoning` of `output`."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cost: int = 0
    estimated: int = 0
    """Bookings whose tokens the provider did not report."""


def larger_counts(one: Sequence[int], other: Sequence[int]) -> UsageCounts:
    """Of two copies of a row's numbers the later one, number by number."""
    return UsageCounts(*map(max, one, other))


def add_counts(one: Sequence[int], other: Sequence[int]) -> UsageCounts:
    """The sum of both."""
    return UsageCounts(*(a + b for a, b in zip(one, other, strict=True)))


class UsageCounters:
    """The rows of this incarnation, and of those before it that are no more."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._own: dict[UsageRow, list[int]] = {}
        self._inherited: dict[UsageRow, dict[str, UsageCounts]] = {}
        self._rows_of: dict[str, int] = {}
        self.unpublished: set[UsageRow] = set()
        """Changed since a store was told."""
        self.unjournaled: set[UsageRow] = set()
        """Changed since the journal had it."""

    def add(self, row: UsageRow, numbers: UsageCounts) -> UsageRow:
        """Book more of a row; the row that it was booked to."""
        known = self._own.get(row)
        if known is None:
            count = self._rows_of.get(row.day, 0)
            if count >= MAX_ROWS_PER_DAY and row.model != OTHER:
                return self.add(UsageRow(row.day, row.key, row.team, OTHER, OTHER), numbers)
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
        self.unpublished.add(row)
        self.unjournaled.add(row)
        return row

    def merge_copy(self, incarnation: str, row: UsageRow, numbers: Sequence[int]) -> None:
        """Take over a row of an incarnation that is no more; an older copy changes nothing."""
        left = self._inherited.setdefault(row, {})
        left[incarnation] = larger_counts(left.get(incarnation, UsageCounts()), numbers)

    def copies_of(self, row: UsageRow) -> Iterator[tuple[str, UsageCounts]]:
        """What is known of a row, by incarnation."""
        yield from self._inherited.get(row, {}).items()
        if row in self._own:
            yield self.incarnation, UsageCounts(*self._own[row])

    def all_copies(self) -> Iterator[tuple[str, UsageRow, UsageCounts]]:
        """Everything that is known."""
        for row in {**self._inherited, **self._own}:
            for incarnation, numbers in self.copies_of(row):
                yield incarnation, row, numbers

    def own_counts(self, row: UsageRow) -> UsageCounts:
        """This incarnation's numbers."""
        return UsageCounts(*self._own.get(row, ()))

    def drop_before(self, before: str) -> None:
        """Drop the rows of days before this one."""
        self._own = {row: numbers for row, numbers in self._own.items() if row.day >= before}
        self._inherited = {row: left for row, left in self._inherited.items() if row.day >= before}
        self._rows_of = {day: count for day, count in self._rows_of.items() if day >= before}


def merge_copies(copies: Iterable[tuple[str, UsageRow, Sequence[int]]]) -> dict[UsageRow, UsageCounts]:
    """The sums over incarnations, of any number of copies in any order."""
    latest: dict[tuple[str, UsageRow], UsageCounts] = {}
    for incarnation, row, numbers in copies:
        at = (incarnation, row)
        latest[at] = larger_counts(latest[at], numbers) if at in latest else UsageCounts(*numbers)
    sums: dict[UsageRow, UsageCounts] = {}
    for (_, row), numbers in latest.items():
        sums[row] = add_counts(sums[row], numbers) if row in sums else numbers
    return sums

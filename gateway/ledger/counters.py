"""Usage as grow-only counters (a G-counter): one row per day, key, team, model, target and tags, for each incarnation of a process.

An incarnation is one run of a process. A process adds only to its own rows. A reader that gets several copies of a row
keeps the larger counts. Therefore rows can be published, journaled and read back any number of times and in any order
without losing usage or counting it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

OTHER = "other"
"""Name that replaces the model, the target and any tags of a new row once the day has MAX_ROWS_PER_DAY rows."""
MAX_ROWS_PER_DAY = 20_000
"""Number of rows per day in one process above which new combinations of names get no rows of their own.

The usage of such a combination is added to the `other` row of its key and team.
"""
KEPT_DAYS = 400


class UsageRow(NamedTuple):
    """The names that identify a row: UTC day (such as 2026-11-21), virtual key, team, configured model, target, tags."""

    day: str
    key: str
    team: str
    model: str
    target: str
    tags: str = ""
    """The tags of the calls, in order and separated by commas."""

    def names(self) -> tuple[str, ...]:
        """Return the names as they are stored. Without tags, these are the names that earlier versions use."""
        return tuple(self) if self.tags else self[:-1]


class UsageCounts(NamedTuple):
    """Counts of one row. `cost` is in nano-dollars; `cached` is part of `prompt`, and `reasoning` is part of `output`."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cost: int = 0
    estimated: int = 0
    """Number of bookings whose tokens are estimated, because the provider did not report them."""
    unpriced: int = 0
    """Number of bookings whose cost is unknown, because the model has no known price. Such bookings add nothing to `cost`."""
    brought_cost: int = 0
    """The part of `cost` that providers charge to credentials that callers brought."""


def larger_counts(first: Sequence[int], second: Sequence[int]) -> UsageCounts:
    """Merge two copies of the counts of a row: return the larger value of each count."""
    return UsageCounts(*map(max, first, second))


def add_counts(first: Sequence[int], second: Sequence[int]) -> UsageCounts:
    """Return the sum of two sets of counts."""
    return UsageCounts(*(a + b for a, b in zip(first, second, strict=True)))


class UsageCounters:
    """The rows of this incarnation, and the rows inherited from earlier incarnations."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._own: dict[UsageRow, list[int]] = {}
        self._inherited: dict[UsageRow, dict[str, UsageCounts]] = {}
        self._rows_of: dict[str, int] = {}
        self.unpublished: set[UsageRow] = set()
        """Rows changed since the last publication to the store."""
        self.unjournaled: set[UsageRow] = set()
        """Rows changed since the last write to the journal."""

    def add(self, row: UsageRow, counts: UsageCounts) -> UsageRow:
        """Add counts to a row. Return the row that was used: an `other` row if `row` is new and the day has too many rows."""
        known = self._own.get(row)
        if known is None:
            count = self._rows_of.get(row.day, 0)
            if count >= MAX_ROWS_PER_DAY and row.model != OTHER:
                return self.add(UsageRow(row.day, row.key, row.team, OTHER, OTHER, OTHER if row.tags else ""), counts)
            self._rows_of[row.day] = count + 1
            self._own[row] = list(counts)
        else:  # in place and without a loop, because this runs for every call
            requests, prompt, cached, output, reasoning, cost, estimated, unpriced, brought_cost = counts
            known[0] += requests
            known[1] += prompt
            known[2] += cached
            known[3] += output
            known[4] += reasoning
            known[5] += cost
            known[6] += estimated
            known[7] += unpriced
            known[8] += brought_cost
        self.unpublished.add(row)
        self.unjournaled.add(row)
        return row

    def merge_copy(self, incarnation: str, row: UsageRow, counts: Sequence[int]) -> None:
        """Inherit a row of an incarnation that has ended. An older copy of the row changes nothing."""
        inherited = self._inherited.setdefault(row, {})
        inherited[incarnation] = larger_counts(inherited.get(incarnation, UsageCounts()), counts)

    def copies_of(self, row: UsageRow) -> Iterator[tuple[str, UsageCounts]]:
        """Yield each incarnation that has counts of a row, with these counts."""
        yield from self._inherited.get(row, {}).items()
        if row in self._own:
            yield self.incarnation, UsageCounts(*self._own[row])

    def all_copies(self) -> Iterator[tuple[str, UsageRow, UsageCounts]]:
        """Yield every row of every incarnation, with its counts."""
        for row in {**self._inherited, **self._own}:
            for incarnation, counts in self.copies_of(row):
                yield incarnation, row, counts

    def own_counts(self, row: UsageRow) -> UsageCounts:
        """Return the counts of a row in this incarnation."""
        return UsageCounts(*self._own.get(row, ()))

    def drop_before(self, first_day: str) -> None:
        """Drop the rows of days before `first_day`."""
        self._own = {row: counts for row, counts in self._own.items() if row.day >= first_day}
        self._inherited = {row: copies for row, copies in self._inherited.items() if row.day >= first_day}
        self._rows_of = {day: count for day, count in self._rows_of.items() if day >= first_day}


def merge_copies(copies: Iterable[tuple[str, UsageRow, Sequence[int]]]) -> dict[UsageRow, UsageCounts]:
    """Merge copies of rows, in any number and order, and return the sum over incarnations for each row."""
    latest: dict[tuple[str, UsageRow], UsageCounts] = {}
    for incarnation, row, counts in copies:
        key = (incarnation, row)
        latest[key] = larger_counts(latest[key], counts) if key in latest else UsageCounts(*counts)
    sums: dict[UsageRow, UsageCounts] = {}
    for (_, row), counts in latest.items():
        sums[row] = add_counts(sums[row], counts) if row in sums else counts
    return sums

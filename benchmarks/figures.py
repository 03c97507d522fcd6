"""The figures of a run and their arithmetic: medians, ranges, and ratios within a repetition."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Spread(NamedTuple):
    """The median, the lowest and the highest value of the repetitions."""

    median: float
    low: float
    high: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


Columns = dict[str, list[float]]
"""The values of a row by column, one per repetition."""


@dataclass
class Figures:
    """All figures of a run: by table, row and column, one value per repetition."""

    tables: dict[str, dict[str, Columns]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Sentences about what could not be measured, by table."""

    def add(self, table: str, row: str, column: str, value: float) -> None:
        """Add the value of one repetition."""
        self.tables.setdefault(table, {}).setdefault(row, {}).setdefault(column, []).append(value)

    def note(self, table: str, text: str) -> None:
        """Add a sentence about a table, unless the table already has this sentence."""
        notes = self.notes.setdefault(table, [])
        if text not in notes:
            notes.append(text)

    def values(self, table: str, row: str, column: str) -> list[float]:
        """Return the values of all repetitions, or an empty list."""
        return self.tables.get(table, {}).get(row, {}).get(column, [])

    def spread(self, table: str, row: str, column: str) -> Spread | None:
        """Return the spread of a figure, or None if it was not measured."""
        values = self.values(table, row, column)
        return spread_of(values) if values else None

    def ratio(self, table: str, row: str, column: str, base: str) -> Spread | None:
        """Return the spread of the ratios of two columns within each repetition, or None if a value of one of them is missing."""
        return self._within(table, row, column, base, lambda value, other: value / other)

    def difference(self, table: str, row: str, column: str, base: str) -> Spread | None:
        """Return the spread of the differences of two columns within each repetition, or None if a value of one of them is missing."""
        return self._within(table, row, column, base, lambda value, other: value - other)

    def _within(self, table: str, row: str, column: str, base: str, combine: Callable[[float, float], float]) -> Spread | None:
        """Return the spread of two columns combined within each repetition, or None if a value of one of them is missing."""
        values, others = self.values(table, row, column), self.values(table, row, base)
        if not values or len(values) != len(others):
            return None
        return spread_of([combine(value, other) for value, other in zip(values, others, strict=True)])

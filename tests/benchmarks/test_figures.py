"""Medians, ranges, ratios and differences of a run."""

from __future__ import annotations

from benchmarks.figures import Figures, Spread, spread_of


def measured(**columns: list[float]) -> Figures:
    """Return the figures of one row."""
    figures = Figures()
    for name, values in columns.items():
        for value in values:
            figures.add("table", "row", name, value)
    return figures


def test_spread_has_the_median_and_the_range() -> None:
    assert spread_of([5, 1, 2]) == Spread(2, 1, 5)
    assert spread_of([3]) == Spread(3, 3, 3)


def test_ratio_is_computed_within_each_repetition() -> None:
    figures = measured(ours=[10, 40, 90], theirs=[10, 10, 30])
    assert figures.ratio("table", "row", "ours", "theirs") == Spread(3, 1, 4)
    assert figures.difference("table", "row", "ours", "theirs") == Spread(30, 0, 60)


def test_repetitions_that_lack_one_of_two_figures_are_not_compared() -> None:
    figures = measured(ours=[10, 40], theirs=[10])
    assert figures.ratio("table", "row", "ours", "theirs") is None
    assert figures.ratio("table", "row", "ours", "missing") is None
    assert figures.spread("table", "other row", "ours") is None


def test_note_is_kept_once() -> None:
    figures = Figures()
    for _ in range(3):
        figures.note("table", "It needs nginx.")
    assert figures.notes == {"table": ["It needs nginx."]}

"""Grow-only counters: sums are exact for repeated, late, reordered and outdated copies."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.counters import MAX_ROWS_PER_DAY, OTHER, UsageCounters, UsageCounts, UsageRow, add_counts, merge_copies

ROWS = [UsageRow(f"2026-11-{day:02}", key, "", "m", "up/m") for day in (20, 21) for key in ("a", "b")]
booking = st.tuples(st.sampled_from(["one", "two", "three"]), st.sampled_from(ROWS), st.integers(0, 10**6))
bookings = st.lists(booking, max_size=60)


def numbers(amount: int) -> UsageCounts:
    """Return counts with a different value in each field, so that mixed-up fields are noticed."""
    return UsageCounts(1, amount, amount // 2, 3 * amount, amount // 3, 7 * amount, amount % 2)


@given(bookings, st.randoms(use_true_random=False))
def test_sums_are_exact_for_any_copies_in_any_order(bookings: list[tuple[str, UsageRow, int]], draw: random.Random) -> None:
    expected: dict[UsageRow, UsageCounts] = {}
    counters = {name: UsageCounters(name) for name in ("one", "two", "three")}
    copies = []
    for name, row, amount in bookings:
        counters[name].add(row, numbers(amount))
        expected[row] = add_counts(expected.get(row, UsageCounts()), numbers(amount))
        copies.extend(counters[name].all_copies())  # published after every booking
    copies += draw.choices(copies, k=len(copies)) if copies else []
    draw.shuffle(copies)
    assert merge_copies(copies) == expected


@given(bookings)
def test_a_successor_inherits_each_row_once(bookings: list[tuple[str, UsageRow, int]]) -> None:
    expected: dict[UsageRow, UsageCounts] = {}
    heir = UsageCounters("heir")
    for name in ("one", "two", "three"):
        dead = UsageCounters(name)
        for _, row, amount in [each for each in bookings if each[0] == name]:
            dead.add(row, numbers(amount))
            expected[row] = add_counts(expected.get(row, UsageCounts()), numbers(amount))
            for incarnation, told, known in dead.all_copies():
                heir.merge_copy(incarnation, told, known)
    for incarnation, row, known in list(heir.all_copies()):
        heir.merge_copy(incarnation, row, UsageCounts(*(part // 2 for part in known)))  # an older copy
    assert merge_copies(heir.all_copies()) == expected


def test_rows_per_day_are_bounded_without_losing_usage() -> None:
    counters = UsageCounters("one")
    for at in range(MAX_ROWS_PER_DAY + 50):
        counters.add(UsageRow("2026-11-21", "k", "", f"m{at}", "up/m"), numbers(1))
    rows = merge_copies(counters.all_copies())
    assert len(rows) <= MAX_ROWS_PER_DAY + 1
    assert sum(known.requests for known in rows.values()) == MAX_ROWS_PER_DAY + 50
    assert rows[UsageRow("2026-11-21", "k", "", OTHER, OTHER)].requests == 50


def test_fixtures_leave_no_journal_in_the_home_directory() -> None:
    import os

    assert Path(os.environ["LOCKGATE_STATE"]).is_dir()
    assert Path.home() not in Path(os.environ["LOCKGATE_STATE"]).parents


def test_a_row_without_tags_is_stored_as_earlier_versions_do() -> None:
    assert UsageRow("2026-11-21", "k", "t", "m", "up/m").names() == ("2026-11-21", "k", "t", "m", "up/m")
    assert UsageRow("2026-11-21", "k", "t", "m", "up/m", "a,b").names() == ("2026-11-21", "k", "t", "m", "up/m", "a,b")


def test_combinations_of_tags_over_the_maximum_are_added_to_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ledger.counters.MAX_ROWS_PER_DAY", 1)
    counters = UsageCounters("here")
    for tags in ("a", "b", "c", ""):
        counters.add(UsageRow("2026-11-21", "k", "", "m", "up/m", tags), numbers(1))
    rows = {(row.model, row.tags): counts.requests for _, row, counts in counters.all_copies()}
    assert rows == {("m", "a"): 1, (OTHER, OTHER): 2, (OTHER, ""): 1}


EVERY = UsageCounts(1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Counts with a different value in each field."""


def test_every_count_of_a_row_is_added_up() -> None:
    counters = UsageCounters("one")
    assert counters.own_counts(ROWS[0]) == UsageCounts() == (0,) * 9
    for times in (1, 2, 3):
        assert counters.add(ROWS[0], EVERY) == ROWS[0]
        assert counters.own_counts(ROWS[0]) == tuple(times * count for count in EVERY)
    assert list(counters.all_copies()) == [("one", ROWS[0], tuple(3 * count for count in EVERY))]


def test_each_change_is_published_and_journaled_again() -> None:
    counters = UsageCounters("one")
    for _ in range(2):
        counters.add(ROWS[0], EVERY)
        assert counters.unpublished == counters.unjournaled == {ROWS[0]}
        counters.unpublished.clear()
        counters.unjournaled.clear()
    counters.merge_copy("two", ROWS[1], EVERY)
    assert not counters.unpublished | counters.unjournaled


def test_a_row_that_is_inherited_and_changed_has_a_copy_of_each_incarnation() -> None:
    counters = UsageCounters("one")
    counters.merge_copy("two", ROWS[0], EVERY)
    counters.merge_copy("three", ROWS[0], UsageCounts(1))
    counters.add(ROWS[0], UsageCounts(5))
    assert dict(counters.copies_of(ROWS[0])) == {"two": EVERY, "three": UsageCounts(1), "one": UsageCounts(5)}
    assert list(counters.copies_of(ROWS[1])) == []
    assert counters.own_counts(ROWS[0]) == UsageCounts(5)


def test_rows_before_a_day_are_dropped_with_those_inherited() -> None:
    (early, *_), late = ROWS, ROWS[-1]
    counters = UsageCounters("one")
    for row in (early, late):
        counters.add(row, EVERY)
        counters.merge_copy("two", row, EVERY)
    counters.drop_before(late.day)
    assert [(name, row) for name, row, _ in counters.all_copies()] == [("two", late), ("one", late)]


def test_the_maximum_of_rows_is_that_of_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ledger.counters.MAX_ROWS_PER_DAY", 2)
    counters = UsageCounters("one")

    def used(day: str, model: str) -> str:
        return counters.add(UsageRow(day, "k", "t", model, "up/m"), EVERY).model

    assert [used("2026-11-20", model) for model in "abcac"] == ["a", "b", OTHER, "a", OTHER]
    assert [used("2026-11-21", model) for model in "abc"] == ["a", "b", OTHER]
    counters.drop_before("2026-11-21")  # the maximum still counts the rows of days that are kept, and no others
    assert [used("2026-11-21", model) for model in "dab"] == [OTHER, "a", "b"]
    assert [used("2026-11-20", model) for model in "abc"] == ["a", "b", OTHER]
    assert UsageRow("2026-11-21", "k", "t", OTHER, OTHER) in {row for _, row, _ in counters.all_copies()}

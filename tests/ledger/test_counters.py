"""Counters that only grow: copies may come twice, late, out of order or from an old state, and the sums are right."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import records
from gateway.ledger.counters import MAX_ROWS_PER_DAY, OTHER, UsageCounters, UsageCounts, UsageRow, add_counts, merge_copies
from gateway.ledger.records import CallProgress, Numbering
from gateway.store.settled_spend import SettledSpend, SpendEntry

ROWS = [UsageRow(f"2026-11-{day:02}", key, "", "m", "up/m") for day in (20, 21) for key in ("a", "b")]
booking = st.tuples(st.sampled_from(["one", "two", "three"]), st.sampled_from(ROWS), st.integers(0, 10**6))
bookings = st.lists(booking, max_size=60)


def numbers(amount: int) -> UsageCounts:
    """Different in each place, so that places cannot be mixed up unseen."""
    return UsageCounts(1, amount, amount // 2, 3 * amount, amount // 3, 7 * amount, amount % 2)


@given(bookings, st.randoms(use_true_random=False))
def test_sums_are_exact_for_any_copies_in_any_order(bookings: list[tuple[str, UsageRow, int]], draw: random.Random) -> None:
    expected: dict[UsageRow, UsageCounts] = {}
    counters = {name: UsageCounters(name) for name in ("one", "two", "three")}
    copies = []
    for name, row, amount in bookings:
        counters[name].add(row, numbers(amount))
        expected[row] = add_counts(expected.get(row, UsageCounts()), numbers(amount))
        copies.extend(counters[name].all_copies())  # told after every booking
    copies += draw.choices(copies, k=len(copies)) if copies else []
    draw.shuffle(copies)
    assert merge_copies(copies) == expected


@given(bookings)
def test_a_successor_has_what_its_predecessors_had_however_often_it_is_told(bookings: list[tuple[str, UsageRow, int]]) -> None:
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


def test_combinations_of_names_are_bounded_and_nothing_is_lost() -> None:
    counters = UsageCounters("one")
    for at in range(MAX_ROWS_PER_DAY + 50):
        counters.add(UsageRow("2026-11-21", "k", "", f"m{at}", "up/m"), numbers(1))
    rows = merge_copies(counters.all_copies())
    assert len(rows) <= MAX_ROWS_PER_DAY + 1
    assert sum(known.requests for known in rows.values()) == MAX_ROWS_PER_DAY + 50
    assert rows[UsageRow("2026-11-21", "k", "", OTHER, OTHER)].requests == 50


def written(bookings: list[tuple[str, UsageRow, int]]) -> tuple[list[bytes], list[dict[tuple[str, UsageRow], UsageCounts]]]:
    """A journal's lines for bookings, and what is known after each line."""
    numbering, counters, lines, states = Numbering(), UsageCounters("mine"), [], []
    state: dict[tuple[str, UsageRow], UsageCounts] = {}
    for _, row, amount in bookings:
        counters.add(row, numbers(amount))
        new: list[bytes] = []
        records.write_totals(numbering, [("mine", row, counters.own_counts(row))], (), (), new)
        for line in new:
            if line.startswith(b'["c"'):
                state = {**state, ("mine", row): counters.own_counts(row)}
            lines.append(line)
            states.append(state)
    return lines, states


@given(bookings, st.integers(0, 10**9))
def test_a_journal_torn_anywhere_keeps_every_whole_line(bookings: list[tuple[str, UsageRow, int]], cut: int) -> None:
    lines, states = written(bookings)
    data = b"".join(line + b"\n" for line in lines)
    cut = cut % (len(data) + 1)
    whole = data[:cut].count(b"\n")
    if cut and data[cut : cut + 1] == b"\n":
        whole += 1  # only the end of the line is missing
    found = records.read_journal(data[:cut])
    assert found.rows == (states[whole - 1] if whole else {})
    assert found.damaged <= 1


@given(st.binary(max_size=300))
def test_rubbish_in_a_journal_is_skipped(rubbish: bytes) -> None:
    lines, states = written([("", ROWS[0], 5), ("", ROWS[1], 6)])
    data = b"\n".join([*lines, rubbish.replace(b"\n", b""), *lines]) + b"\n"
    assert records.read_journal(data).rows == states[-1]


def test_calls_under_way_are_kept_by_their_last_record_and_counted_once_when_they_end() -> None:
    numbering, lines = Numbering(), []
    row, budget = ROWS[0], ("lockgate:{caller}:key:a:spend:month", 24322)
    share = SpendEntry("mine", *budget, 100)
    records.write_totals(numbering, [("mine", row, numbers(10))], [share], (), lines)
    calls = [CallProgress("ended", row, numbers(4), (budget,)), CallProgress("cut", row, numbers(6), (budget,))]
    records.write_progress(numbering, "mine", calls, lines)
    records.write_totals(numbering, [("mine", row, add_counts(numbers(10), numbers(5)))], [SpendEntry("mine", *budget, 135)], ["ended"], lines)
    found = records.read_journal(b"\n".join(lines))
    assert found.rows == {("mine", row): add_counts(add_counts(numbers(10), numbers(5)), numbers(6))}
    assert found.spend == {("mine", *budget): 135 + 42}


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 1000)), max_size=40))
def test_what_was_spent_is_the_sum_over_incarnations_of_the_largest_copy(copies: list[tuple[str, int]]) -> None:
    spent = SettledSpend("mine")
    spent.add("k:month", 5, 17)
    for incarnation, amount in copies * 2:
        spent.merge(SpendEntry(incarnation, "k:month", 5, amount))
    largest = {name: max(amount for other, amount in copies if other == name) for name in {name for name, _ in copies}}
    assert spent.total("k:month", 5) == 17 + sum(largest.values())


def test_fixtures_leave_no_journal_in_the_home_directory() -> None:
    import os

    assert Path(os.environ["LOCKGATE_STATE"]).is_dir()
    assert Path.home() not in Path(os.environ["LOCKGATE_STATE"]).parents

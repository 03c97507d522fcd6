"""Journal lines: truncated files, invalid lines, and calls in flight."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import records
from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow, add_counts
from gateway.ledger.records import CallProgress, JournalContents, Numbering, read_journal, write_windows
from gateway.store.settled_spend import SpendEntry
from gateway.store.window_usage import WindowEntry
from tests.ledger.test_counters import ROWS, bookings, numbers
from tests.support.each import each


def written(bookings: list[tuple[str, UsageRow, int]]) -> tuple[list[bytes], list[dict[tuple[str, UsageRow], UsageCounts]]]:
    """Return the journal lines of bookings, and the state after each line."""
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
def test_a_truncated_journal_keeps_every_complete_line(bookings: list[tuple[str, UsageRow, int]], cut: int) -> None:
    lines, states = written(bookings)
    data = b"".join(line + b"\n" for line in lines)
    cut = cut % (len(data) + 1)
    whole = data[:cut].count(b"\n")
    if cut and data[cut : cut + 1] == b"\n":
        whole += 1  # only the newline is missing
    found = records.read_journal(data[:cut])
    assert found.rows == (states[whole - 1] if whole else {})
    assert found.damaged <= 1


@given(st.binary(max_size=300))
def test_invalid_lines_are_skipped(rubbish: bytes) -> None:
    lines, states = written([("", ROWS[0], 5), ("", ROWS[1], 6)])
    data = b"\n".join([*lines, rubbish.replace(b"\n", b""), *lines]) + b"\n"
    assert records.read_journal(data).rows == states[-1]


def test_calls_in_flight_keep_their_last_record_and_count_once_when_they_end() -> None:
    numbering, lines = Numbering(), []
    row, budget = ROWS[0], ("lockgate:{caller}:key:a:spend:month", 24322)
    share = SpendEntry("mine", *budget, 100)
    records.write_totals(numbering, [("mine", row, numbers(10))], [share], (), lines)
    calls = [CallProgress("ended", row, numbers(4), (budget,)), CallProgress("cut", row, numbers(6), (budget,))]
    records.write_progress(numbering, "mine", calls, lines)
    booked = add_counts(numbers(10), numbers(5))
    records.write_totals(numbering, [("mine", row, booked)], [SpendEntry("mine", *budget, 135)], ["ended"], lines)
    found = records.read_journal(b"\n".join(lines))
    assert found.rows == {("mine", row): add_counts(booked, numbers(6))}
    assert found.spend == {("mine", *budget): 135 + 42}


def test_rows_with_and_without_tags_are_read_back() -> None:
    rows = [UsageRow("2026-11-21", "k", "t", "m", "up/m"), UsageRow("2026-11-21", "k", "t", "m", "up/m", "a,b")]
    lines: list[bytes] = []
    records.write_totals(Numbering(), [("here", row, UsageCounts(requests=1)) for row in rows], [], [], lines)
    contents = records.read_journal(b"\n".join(lines) + b"\n")
    assert (set(contents.rows), contents.damaged) == ({("here", row) for row in rows}, 0)


def lines_of(*lines: Any) -> records.JournalContents:
    """Return the contents of a journal with these lines."""
    return records.read_journal(b"\n".join(map(msgspec.json.encode, lines)))


DECLARED = ["r", 0, "one", "2026-11-21", "k", "t", "m", "up/m"]
ROW = UsageRow("2026-11-21", "k", "t", "m", "up/m")


def test_rows_and_budgets_are_declared_at_their_first_use_only() -> None:
    numbering, lines = Numbering(), list[bytes]()
    for _ in range(2):
        call = CallProgress("id", ROW, UsageCounts(1), (("budget", 7), ("budget", 8)))
        records.write_totals(numbering, [("one", ROW, UsageCounts(1))], [SpendEntry("one", "budget", 7, 5)], ("old",), lines)
        records.write_progress(numbering, "one", [call], lines)
    counts = [1, 0, 0, 0, 0, 0, 0, 0, 0]
    totals, progress = ["c", [[0, *counts]], [[1, 5]], ["old"]], ["p", [["id", 0, counts, [1, 2]]]]
    budgets = [["b", 1, "one", "budget", 7], ["b", 2, "one", "budget", 8]]
    assert [msgspec.json.decode(line) for line in lines] == [DECLARED, budgets[0], totals, budgets[1], progress, totals, progress]


@each(
    ("counts", "read"),
    [
        ([1, 2, 3, 4, 5, 6, 7], UsageCounts(1, 2, 3, 4, 5, 6, 7)),  # as the first version wrote them
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], UsageCounts(1, 2, 3, 4, 5, 6, 7, 8, 9)),
        ([0, 0, 0, 0, 0, 0, 0], UsageCounts()),
        ([1, 2, 3, 4, 5, 6], None),
        ([1, 2, 3, 4, 5, 6, -1], None),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], None),
        ([1, 2, 3, 4, 5, 6, "x"], None),
    ],
)
def test_counts_are_those_of_any_version(counts: list[Any], read: UsageCounts | None) -> None:
    for record in (["c", [[0, *counts]], [], []], ["p", [["id", 0, counts, []]]]):
        found = lines_of(DECLARED, record)
        assert (found.rows, found.damaged) == ({("one", ROW): read} if read is not None else {}, int(read is None))


def test_every_invalid_line_is_counted() -> None:
    data = b"\n\nnothing\n" + b"\n".join(
        map(msgspec.json.encode, [["c", [[5, *[1] * 7]], [], []], 3, [], ["b", 1], ["r", 0, "one"], DECLARED])
    )
    found = records.read_journal(data + b"\n")
    assert (found.damaged, found.rows, found.spend) == (6, {}, {})
    assert JournalContents().damaged == 0


def test_calls_in_flight_of_unknown_rows_and_budgets_are_left_out() -> None:
    counts = [1, 2, 0, 3, 0, 40, 0]
    found = lines_of(DECLARED, ["b", 1, "one", "budget", 7], ["p", [["a", 9, counts, [1, 9]], ["b", 0, counts, [1]], ["c", 0, counts, []]]])
    assert found.rows == {("one", ROW): UsageCounts(2, 4, 0, 6, 0, 80, 0)}
    assert found.spend_entries() == [SpendEntry("one", "budget", 7, 80)]


def test_a_later_record_of_the_calls_in_flight_replaces_an_earlier_one() -> None:
    old, new = [1, 2, 0, 3, 0, 40, 0], [1, 2, 0, 5, 0, 60, 0]
    found = lines_of(DECLARED, ["p", [["a", 0, old, []], ["b", 0, old, []]]], ["p", [["b", 0, new, []]]], ["c", [], [], ["unknown"]])
    assert found.rows == {("one", ROW): UsageCounts(*new)}
    assert lines_of(DECLARED, ["p", [["a", 0, old, []]]], ["p", []]).rows == {}


def test_windows_are_read_back_with_their_latest_amounts() -> None:
    numbering, lines = Numbering(), list[bytes]()
    write_windows(numbering, [WindowEntry("one", "k", 5, 3), WindowEntry("two", "k", 5, 4), WindowEntry("one", "k", 6, 1)], lines)
    write_windows(numbering, [WindowEntry("one", "k", 5, 9)], lines)
    assert len(lines) == 2 + 2  # two declarations, and two lines with amounts
    write_windows(numbering, [], lines)
    assert len(lines) == 4
    contents = read_journal(b"\n".join(lines))
    assert contents.window_entries() == [WindowEntry("one", "k", 5, 9), WindowEntry("two", "k", 5, 4), WindowEntry("one", "k", 6, 1)]
    assert contents.damaged == 0

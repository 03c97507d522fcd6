"""Journal lines: truncated files, invalid lines, and calls in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import records
from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow, add_counts
from gateway.ledger.records import CallProgress, Numbering
from gateway.store.settled_spend import SpendEntry
from tests.ledger.test_counters import ROWS, bookings, numbers


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

"""What a process has charged to windows: recent runs one by one, older ones by slot."""

from __future__ import annotations

import pytest

from gateway.store import runs as module
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.runs import RECENT_S, SWEEP_INTERVAL_S, charges_of
from tests.store.test_runs import HOUR, LATE, NOW, SLOT, TARGET, TOKENS, Process, call, settled
from tests.support.each import each


def test_own_usage_counts_each_charge_to_a_slot_that_still_counts() -> None:
    process = Process(late=LATE)
    runs = process.runs
    runs.clock_offset_us = LATE
    oldest = SLOT - HOUR.slots
    runs.on_reply("caller", 1, charges=[(HOUR, oldest - 1, 1), (HOUR, oldest, 2)])
    runs.fold(everything=True)
    runs.on_reply("caller", 2, [settled("s", 4)], [(HOUR, SLOT, 8)])
    runs.on_reply("target", 1, [settled("t", 3, limit=TARGET)])
    usage = runs.own_usage([call("open", slot=-1)], [settled("unconfirmed", 32)], [(HOUR, SLOT, 64)])
    assert usage == {HOUR.key: 2 + 4 + 8 + 1 + 32 + 64, TARGET.key: 3}
    assert runs.own_usage([], [], []) == {HOUR.key: 2 + 4 + 8, TARGET.key: 3}  # reading changes nothing
    process.now += HOUR.slot
    assert runs.own_usage([], [], [])[HOUR.key] == 4 + 8


def test_runs_without_charges_are_not_kept() -> None:
    process = Process()
    process.runs.on_reply("caller", 3)
    process.now_s += RECENT_S + 1
    process.runs.on_reply("caller", 4, [settled("a", 1)])
    process.runs.fold()
    assert process.folded() == {}


def test_charges_are_kept_by_slot_once_they_are_older_than_the_time_of_recent_runs() -> None:
    process = Process()
    runs = process.runs
    runs.on_reply("caller", 1, [settled("a", 1)], [(TOKENS, SLOT, 2)])
    process.now_s += 1
    runs.on_reply("caller", 2, [settled("b", 4)])
    process.now_s += RECENT_S - 1
    runs.fold()
    assert process.folded() == {}
    process.now_s += 0.5
    runs.fold()
    assert process.folded() == {HOUR.key: {SLOT: 1}, TOKENS.key: {SLOT: 2}}
    process.now_s += 1
    runs.fold()
    assert process.folded() == {HOUR.key: {SLOT: 1 + 4}, TOKENS.key: {SLOT: 2}}
    runs.fold()
    assert process.folded() == {HOUR.key: {SLOT: 1 + 4}, TOKENS.key: {SLOT: 2}}


def test_beyond_the_maximum_number_the_oldest_settlements_are_kept_by_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECENT", 3)
    process = Process()
    runs = process.runs
    for number in (1, 2, 3):
        runs.on_reply("caller", number, [settled(f"{number}", number)])
    runs.on_reply("caller", 4, charges=[(HOUR, SLOT, 100)])
    runs.fold()
    assert process.folded() == {}
    runs.on_reply("caller", 5, [settled("5", 5)])
    runs.fold()
    assert process.folded() == {HOUR.key: {SLOT: 1}}
    runs.on_reply("caller", 6, [settled("6", 6), settled("7", 7)])
    runs.fold()
    assert process.folded() == {HOUR.key: {SLOT: 1 + 2 + 3}}


def test_charges_that_no_longer_count_are_dropped_now_and_then() -> None:
    process = Process(late=LATE)
    runs = process.runs
    runs.clock_offset_us = LATE
    old = SLOT - HOUR.slots - 2
    process.windows.add([(HOUR, old, 1)])
    process.now_s = RECENT_S
    runs.fold()
    assert process.folded() == {HOUR.key: {old: 1}}
    process.now_s += 1
    runs.fold()
    assert process.folded() == {}
    process.windows.add([(HOUR, old, 1)])
    process.now_s += SWEEP_INTERVAL_S
    runs.fold()
    assert process.folded() == {HOUR.key: {old: 1}}
    process.now_s += 1
    runs.fold()
    assert process.folded() == {}


@each(
    ("slot", "expected"),
    [
        (SLOT, [(SLOT, 7)]),
        (SLOT - HOUR.slots, [(SLOT - HOUR.slots, 7)]),
        (SLOT - HOUR.slots - 1, [(SLOT, 4)]),  # the reservation no longer counts: what it did not cover does
        (-1, [(SLOT, 7)]),  # the admission got no reply
        (0, [(SLOT, 4)]),
    ],
)
def test_a_settled_call_charges_the_slot_of_its_admission(slot: int, expected: list[tuple[int, int]]) -> None:
    reservation = Reservation("a", [TOKENS], Costs(prompt_tokens=3), [slot], (), 0)
    assert [(slot, amount) for _, slot, amount in charges_of(reservation, Costs(prompt_tokens=7), NOW)] == expected


def test_only_windows_get_charges_and_only_of_amounts_above_zero() -> None:
    budget, calls = Limit("k", "spend", 9, "day"), Limit("k", "concurrent", 9)
    limits = [budget, calls, TOKENS, HOUR]
    actual = Costs(requests=1, spend=5)
    assert list(charges_of(Reservation("a", limits, Costs(), [20_000, -1, SLOT, SLOT], (), 0), actual, NOW)) == [(HOUR, SLOT, 1)]
    expired = Reservation("b", [TOKENS], Costs(prompt_tokens=9), [SLOT - 200], (), 0)
    assert list(charges_of(expired, Costs(prompt_tokens=7), NOW)) == []
    assert list(charges_of(Reservation("c", limits, Costs(), [], (), 0), actual, NOW)) == []

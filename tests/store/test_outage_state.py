"""The calls that a process admits during an outage, given its state before: limits, refusals, and calls that were in flight."""

from __future__ import annotations

import itertools

import pytest

from gateway.store import outage as outage_module
from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.outage import OutageLimiter
from gateway.store.settled_spend import SettledSpend
from tests.support.each import each

NUMBERS = itertools.count()
NOW = 1_900_000_000 * US_PER_S


def outage_of(moment: list[int]) -> OutageLimiter:
    """Return a limiter of one process whose clock is `moment`."""
    outage = OutageLimiter(now=lambda: moment[0])
    outage.begin(1)
    return outage


def admitted_of(outage: OutageLimiter, limit: Limit) -> int:
    """Return the number of calls, of forty further ones, that are admitted."""
    names = (f"{limit.key}.{next(NUMBERS)}" for _ in range(40))
    return sum(isinstance(outage.decide([limit], Costs(spend=1), name), Reservation) for name in names)


def test_only_so_many_states_of_limits_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "MAX_REMEMBERED_LIMITS", 2)
    limits = [Limit(name, "requests", 30, "min") for name in ("first", "second", "third")]
    outage = OutageLimiter(now=lambda: NOW)
    for left in (30, 0):  # states that are remembered are still updated
        for limit in limits:
            outage.record_status(limit, left, limit.slot_at(NOW))
    outage.begin(1)
    assert [admitted_of(outage, limit) for limit in limits] == [0, 0, 30]


def test_only_so_many_refusals_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [Limit(name, "requests", 30, "min") for name in ("first", "second", "third")]
    outage = OutageLimiter(now=lambda: NOW)
    for limit in limits:
        outage.record_status(limit, 30, limit.slot_at(NOW))
    monkeypatch.setattr(outage_module, "MAX_REMEMBERED_LIMITS", 2)
    for left in (30, 0):
        for limit in limits:
            outage.record_refusal(limit, left)
    outage.begin(1)
    assert [admitted_of(outage, limit) for limit in limits] == [0, 0, 30]


def test_the_second_of_two_limits_is_named_if_it_refuses() -> None:
    outage = outage_of([NOW])
    limits = [Limit("wide", "requests", 9, "h"), Limit("narrow", "requests", 1, "h"), Limit("shut", "spend", 9, "day", outage="closed")]
    assert isinstance(outage.decide(limits[:2], Costs(), "a"), Reservation)
    for count, limit, unavailable in ((2, limits[1], False), (3, limits[2], True)):
        found = outage.decide(limits[:count], Costs(), "b")
        assert isinstance(found, Refusal)
        assert (found.limit, found.unavailable, found.degraded) == (limit, unavailable, True)
    assert found.retry_after == 1.0


def test_a_budget_that_is_used_up_is_refused_by_the_outage() -> None:
    found = outage_of([NOW]).decide([Limit("k", "spend", 9, "day")], Costs(spend=10), "a")
    assert isinstance(found, Refusal)
    assert (found.degraded, found.unavailable, found.retry_after) == (True, True, 1.0)


def test_a_reservation_of_the_store_is_not_settled_here() -> None:
    limit = Limit("k", "requests", 9, "h")
    assert outage_of([NOW]).settle(Reservation("a", [limit], Costs(), [1], (), NOW), Costs()) is False


def test_usage_of_a_slot_before_the_first_settlement_expires() -> None:
    moment = [NOW]
    outage, minute = outage_of(moment), Limit("k", "requests", 9, "min")
    held = outage.decide([minute], Costs(), "a")
    assert isinstance(held, Reservation)
    moment[0] += 30 * US_PER_S
    outage.settle(held, Costs())
    moment[0] += 40 * US_PER_S
    assert outage.recover() == ([], [])


def test_usage_is_replayed_once() -> None:
    outage, limit = outage_of([NOW]), Limit("k", "requests", 9, "h")
    held = outage.decide([limit], Costs(), "a")
    assert isinstance(held, Reservation)
    outage.settle(held, Costs())
    assert [len(outage.recover()[0]) for _ in range(2)] == [1, 0]


def calls_before(limit: Limit, count: int) -> list[Reservation]:
    """Return calls that the store admitted before the outage."""
    return [Reservation(f"before{at}", [limit], Costs(), [NO_SLOT], (), 0) for at in range(count)]


@each(("later", "admitted"), [(0, 15), (20 * US_PER_S, 15), (20 * US_PER_S + 1, 10)])
def test_leases_in_the_store_count_for_twenty_seconds(later: int, admitted: int) -> None:
    moment, limit = [NOW], Limit("k", "concurrent", 30)
    before = calls_before(limit, 15)
    outage = OutageLimiter(now=lambda: moment[0])
    outage.record_status(limit, 9, NO_SLOT)
    outage.begin(3, before)
    assert admitted_of(outage, limit) == 0
    for one in before:
        outage.call_ended(one)
    moment[0] += later
    assert admitted_of(outage, limit) == admitted


def test_calls_from_before_count_even_beyond_the_share_that_follows() -> None:
    moment, limit = [NOW], Limit("k", "concurrent", 30)
    before = calls_before(limit, 15)
    outage = OutageLimiter(now=lambda: moment[0])
    outage.begin(3, before)
    moment[0] += 21 * US_PER_S
    assert admitted_of(outage, limit) == 0
    for one in before[:5]:
        outage.call_ended(one)
    assert admitted_of(outage, limit) == 0
    outage.call_ended(before[5])
    assert admitted_of(outage, limit) == 1


@each("left", [0, -1])
def test_no_calls_are_added_if_none_remained(left: int) -> None:
    limit = Limit("k", "concurrent", 3)
    outage = OutageLimiter(now=lambda: NOW)
    outage.record_status(limit, left, NO_SLOT)
    outage.begin(1, calls_before(limit, 1))
    assert admitted_of(outage, limit) == 0


def test_calls_from_before_an_outage_do_not_count_in_the_next() -> None:
    limit = Limit("k", "concurrent", 3)
    outage = OutageLimiter(now=lambda: NOW)
    outage.begin(1, calls_before(limit, 2))
    outage.begin(1)
    assert admitted_of(outage, limit) == 3


@each("limit", [Limit("k", "requests", 1, "min"), Limit("k", "spend", 100, "month")])
def test_an_exceeded_limit_of_a_single_process_admits_nothing(limit: Limit) -> None:
    spent = SettledSpend("me")
    spent.add(limit.key, limit.slot_at(NOW), 110)
    for left in (-5, 0, None):
        outage = OutageLimiter(spent, now=lambda: NOW)
        if left is not None:
            outage.record_status(limit, left, limit.slot_at(NOW))
        outage.begin(1)
        if left is not None or limit.kind == "spend":
            assert admitted_of(outage, limit) == 0


def test_a_small_remainder_of_a_budget_is_used() -> None:
    outage, budget = OutageLimiter(now=lambda: NOW), Limit("k", "spend", 3000, "month")
    outage.record_status(budget, 12, budget.slot_at(NOW))
    outage.begin(3)
    assert admitted_of(outage, budget) == 4


def test_a_remainder_just_below_a_twentieth_of_the_share_counts_as_zero() -> None:
    outage, limit = OutageLimiter(now=lambda: NOW), Limit("k", "requests", 303, "min")
    outage.record_status(limit, 15, limit.slot_at(NOW))
    outage.begin(3)
    assert admitted_of(outage, limit) == 0


@each(
    ("ago", "at_refusal", "later", "admitted"),
    [
        (int(OVERDUE_AFTER_S * US_PER_S) - 1, 0, 30, 0),
        (int(OVERDUE_AFTER_S * US_PER_S), 0, 30, 30),
        (1, 30, 10, 10),  # the smaller of the two
        (1, 10, 30, 10),
    ],
)
def test_a_refusal_counts_until_the_other_processes_notice(ago: int, at_refusal: int, later: int, admitted: int) -> None:
    moment, limit = [NOW], Limit("k", "requests", 30, "min")
    outage = OutageLimiter(now=lambda: moment[0])
    outage.record_refusal(limit, at_refusal)
    moment[0] += ago
    outage.record_status(limit, later, limit.slot_at(moment[0]))
    outage.begin(1)
    assert admitted_of(outage, limit) == admitted


def test_clocks_count_as_equal_before_the_store_has_reported_its_own() -> None:
    minute = Limit("k", "requests", 30, "min")
    outage = OutageLimiter(now=lambda: NOW - 1)
    outage.record_status(minute, 0, minute.slot_at(NOW - 1) - 120)
    outage.begin(1)
    assert admitted_of(outage, minute) == 0


def test_a_process_that_never_saw_the_store_has_the_whole_limit() -> None:
    outage = OutageLimiter(now=lambda: NOW)
    assert [admitted_of(outage, limit) for limit in (Limit("k", "requests", 3, "h"), Limit("k", "concurrent", 3))] == [3, 3]

"""Decisions of one process during an outage: its share of the remaining amount, then its share of the limit."""

from __future__ import annotations

import itertools

from gateway.limits.refusal import told_wait
from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.outage import OutageLimiter
from gateway.store.settled_spend import SettledSpend
from tests.support.each import each


def test_only_a_part_of_the_remainder_is_used_until_a_window_has_passed() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    limit = Limit("k", "requests", 300, "s")
    outage.record_status(limit, 90, limit.slot_at(moment[0]))
    outage.begin(3)
    admitted: list[int] = []
    began, count = moment[0], itertools.count()
    while moment[0] < began + 6 * US_PER_S:
        moment[0] += US_PER_S // 500
        if isinstance(outage.decide([limit], Costs(), f"o{next(count)}"), Reservation):
            admitted.append(moment[0] - began)
    slid = int((OVERDUE_AFTER_S + 1) * US_PER_S)
    assert sum(at < slid for at in admitted) == 30  # the process's part of the remainder
    assert sum(slid <= at < slid + US_PER_S for at in admitted) in range(90, 101)  # the process's share of the limit
    for at in admitted:
        assert sum(at - US_PER_S < one <= at for one in admitted) <= 100


def test_a_refusal_in_an_outage_states_when_the_charges_of_the_share_end() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    limit = Limit("k", "requests", 2, "min")
    outage.begin(2)
    assert isinstance(outage.decide([limit], Costs(), "a"), Reservation)
    moment[0] += 20 * US_PER_S
    refusal = outage.decide([limit], Costs(), "b")
    assert isinstance(refusal, Refusal)
    assert (refusal.retry_after, refusal.reset_s) == (40.5, 40.5)
    assert told_wait(refusal) == 40.5


def test_concurrent_calls_continue_and_later_fall_to_the_share() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    few, many, full = (Limit(name, "concurrent", 30) for name in ("few", "many", "full"))
    before = [
        Reservation(f"{limit.key}{at}", [limit], Costs(), [NO_SLOT], (), 0)
        for limit, n in ((few, 2), (many, 15), (full, 5))
        for at in range(n)
    ]
    for limit, left in ((few, 9), (many, 9), (full, 0)):
        outage.record_status(limit, left, NO_SLOT)
    outage.begin(3, before)

    def more(limit: Limit, name: str) -> int:
        return sum(isinstance(outage.decide([limit], Costs(), f"{limit.key}{name}{at}"), Reservation) for at in range(30))

    assert [more(limit, "a") for limit in (few, many, full)] == [3, 0, 0]  # a third of the remainder, and no more than its share
    for one in before:
        outage.call_ended(one)
    assert [more(limit, "b") for limit in (few, many, full)] == [2, 15, 5]
    moment[0] += 21 * US_PER_S
    assert [more(limit, "c") for limit in (few, many, full)] == [5, 0, 5]  # the share of the process is ten


def test_a_small_remainder_counts_as_zero() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    nearly, refused, free = (Limit(name, "requests", 300, "min") for name in ("nearly", "refused", "free"))
    outage.record_refusal(refused, 0)
    moment[0] += US_PER_S
    for limit, left in ((nearly, 12), (refused, 150), (free, 150)):
        outage.record_status(limit, left, limit.slot_at(moment[0]))
    outage.begin(3)
    found = [isinstance(outage.decide([limit], Costs(), limit.key), Reservation) for limit in (nearly, refused, free)]
    assert found == [False, False, True]


def outage_of(moment: list[int]) -> OutageLimiter:
    """Return a limiter of one process whose clock is `moment`."""
    outage = OutageLimiter(now=lambda: moment[0])
    outage.begin(1)
    return outage


@each(("used", "later", "replayed"), [(40, 5, 40), (60, 5, 60), (40, 300, 0), (60, 300, 10), (50, 300, 0), (0, 5, 0)])
def test_a_call_older_than_its_window_is_reported_without_its_reservation(used: int, later: int, replayed: int) -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage, tokens = outage_of(moment), Limit("k", "tokens", 1000, "min")
    held = outage.decide([tokens], Costs(prompt_tokens=50), "a")
    assert isinstance(held, Reservation)
    admitted_in = tokens.slot_at(moment[0])
    moment[0] += later * US_PER_S
    assert outage.settle(held, Costs(prompt_tokens=used))
    assert not outage.settle(held, Costs(prompt_tokens=used))
    usages = outage.recover()[0]
    assert sum(sum(usage.slots.values()) for usage in usages) == replayed
    if replayed and later == 5:
        assert usages[0].slots[admitted_in] == used


def test_an_unfinished_call_is_taken_over_and_not_reported() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = outage_of(moment)
    limits = [Limit("k", "tokens", 1000, "min"), Limit("k", "concurrent", 5), Limit("k", "spend", 10**9, "day", timezone="Asia/Tokyo")]
    held = outage.decide(limits, Costs(prompt_tokens=50, spend=7), "a")
    assert isinstance(held, Reservation)
    assert held.degraded
    assert held.slots == [NO_SLOT, NO_SLOT, limits[2].slot_at(moment[0])]
    assert outage.recover() == ([], [held])
    assert outage.recover() == ([], [])


@each(("mode", "counted"), [("open", "open"), ("closed", "closed"), ("local_share", "local_share")])
def test_the_mode_of_an_outage_decides(mode: str, counted: str) -> None:
    outage = outage_of([1_900_000_000 * US_PER_S])
    limit = Limit("k", "requests", 1, "h", outage=mode)  # type: ignore[arg-type]
    found = [outage.decide([limit], Costs(), f"c{at}") for at in range(3)]
    assert [isinstance(one, Reservation) for one in found] == {
        "open": [True] * 3, "closed": [False] * 3, "local_share": [True, False, False],
    }[mode]  # fmt: skip
    assert all(one.degraded for one in found)
    for one in found:
        if isinstance(one, Refusal):
            assert (one.limit, one.unavailable) == (limit, mode == "closed")
    assert outage.decisions == {counted: 3}


def test_a_share_of_zero_admits_nothing_and_is_reported_as_unavailable() -> None:
    outage = OutageLimiter(now=lambda: 1_900_000_000 * US_PER_S)
    outage.begin(3)
    for limit in (Limit("k", "requests", 2, "h"), Limit("k", "concurrent", 2)):
        found = outage.decide([limit], Costs(), limit.key)
        assert isinstance(found, Refusal)
        assert (found.limit, found.unavailable) == (limit, True)


@each(
    ("period", "seen", "amount"),
    [
        (0, 60, 20),  # a third of the remainder
        (0, -5, 0),
        (1, 60, 20),  # the store's clock is ahead
        (-1, 60, 33),  # the remainder of an earlier period gives no information about this one
        (None, None, 30),  # the store never reported it: the amount that is known to be spent is 10
    ],
)
def test_a_budget_in_an_outage_is_a_share_of_what_remained(period: int | None, seen: int | None, amount: int) -> None:
    moment = [1_900_000_000 * US_PER_S]
    spent = SettledSpend("me")
    budget = Limit("k", "spend", 100, "month", timezone="America/New_York")
    now = budget.slot_at(moment[0])
    spent.add(budget.key, now, 10)
    outage = OutageLimiter(spent, now=lambda: moment[0])
    if period is not None and seen is not None:
        outage.record_status(budget, seen, now + period)
    outage.begin(3)
    for at in range(40):
        found = outage.decide([budget], Costs(spend=1), f"c{at}")
        if isinstance(found, Refusal):
            assert (found.unavailable, found.retry_after) == (True, 1.0)
            break
        outage.settle(found, Costs(spend=1))
    assert at == amount


def test_a_status_older_than_a_window_is_not_used() -> None:
    moment = [1_900_000_000 * US_PER_S]
    minute = Limit("k", "requests", 30, "min")
    for age, offset, admitted in ((119, 0, 0), (120, 0, 0), (121, 0, 10), (121, -US_PER_S, 0), (119, US_PER_S, 10)):
        outage = OutageLimiter(now=lambda: moment[0])
        outage.clock_offset_us = offset
        outage.record_status(minute, 0, minute.slot_at(moment[0]) - age)
        outage.begin(3)
        assert sum(isinstance(outage.decide([minute], Costs(), f"c{at}"), Reservation) for at in range(30)) == admitted, age


def test_a_recent_refusal_bounds_what_remained() -> None:
    moment = [1_900_000_000 * US_PER_S]
    for ago, admitted in ((1.0, 0), (1.6, 20)):
        outage, limit = OutageLimiter(now=lambda: moment[0]), Limit("k", "requests", 60, "min")
        outage.record_refusal(limit, 1)
        moment[0] += int(ago * US_PER_S)
        outage.record_status(limit, 60, limit.slot_at(moment[0]))
        outage.begin(3)
        assert sum(isinstance(outage.decide([limit], Costs(), f"c{at}"), Reservation) for at in range(30)) == admitted


def test_shares_of_an_outage_are_not_carried_over_to_the_next() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage, limit = OutageLimiter(now=lambda: moment[0]), Limit("k", "requests", 10, "h")
    counts = []
    for members in (5, 2):
        outage.begin(members)
        counts.append(sum(isinstance(outage.decide([limit], Costs(), f"c{members}.{at}"), Reservation) for at in range(10)))
    assert counts == [2, 5]


def test_an_ended_call_frees_its_share_of_calls_and_of_what_it_did_not_use() -> None:
    outage = outage_of([1_900_000_000 * US_PER_S])
    calls, tokens = Limit("k", "concurrent", 1), Limit("k", "tokens", 100, "h")
    first = outage.decide([calls, tokens], Costs(prompt_tokens=90), "a")
    assert isinstance(first, Reservation)
    assert isinstance(outage.decide([calls], Costs(), "b"), Refusal)
    outage.settle(first, Costs(prompt_tokens=40))
    assert isinstance(outage.decide([calls, tokens], Costs(prompt_tokens=61), "c"), Refusal)
    assert isinstance(outage.decide([calls, tokens], Costs(prompt_tokens=60), "d"), Reservation)


def test_spend_and_concurrent_calls_are_not_replayed() -> None:
    outage = outage_of([1_900_000_000 * US_PER_S])
    limits = [Limit("k", "concurrent", 5), Limit("k", "spend", 10**9, "total"), Limit("k", "requests", 9, "day")]
    held = outage.decide(limits, Costs(spend=7), "a")
    assert isinstance(held, Reservation)
    outage.settle(held, Costs(spend=7))
    (usage,) = outage.recover()[0]
    assert (usage.limit, list(usage.slots.values())) == (limits[2], [1])


def test_usage_that_expired_before_the_end_of_the_outage_is_not_replayed() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage, minute = outage_of(moment), Limit("k", "requests", 9, "min")
    held = outage.decide([minute], Costs(), "a")
    assert isinstance(held, Reservation)
    outage.settle(held, Costs())
    moment[0] += 300 * US_PER_S
    assert outage.recover() == ([], [])


@each(("slots", "counts"), [(119, True), (120, True), (121, False)])
def test_usage_counts_in_its_own_slot_while_that_is_in_the_window(slots: int, counts: bool) -> None:
    minute = Limit("k", "tokens", 1000, "min")
    moment = [1_900_000_000 * US_PER_S]
    outage = outage_of(moment)
    held = outage.decide([minute], Costs(prompt_tokens=50), "a")
    assert isinstance(held, Reservation)
    own = minute.slot_at(moment[0])
    moment[0] += slots * minute.slot
    outage.settle(held, Costs(prompt_tokens=60))
    assert outage.recover()[0][0].slots == ({own: 60} if counts else {own + slots: 10})


def test_a_twentieth_of_a_share_is_still_used() -> None:
    moment = [1_900_000_000 * US_PER_S]
    for left, admitted in ((14, 0), (15, 5), (29, 9)):  # the share is 100: a remainder of 5 is used, one of 4 is not
        outage, limit = OutageLimiter(now=lambda: moment[0]), Limit("k", "requests", 300, "min")
        outage.record_status(limit, left, limit.slot_at(moment[0]))
        outage.begin(3)
        assert sum(isinstance(outage.decide([limit], Costs(), f"c{at}"), Reservation) for at in range(30)) == admitted

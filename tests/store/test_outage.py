"""Decisions of one process during an outage: its share of what remained, then its share of the limit."""

from __future__ import annotations

import itertools

from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, Reservation
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.outage import OutageLimiter


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
    assert sum(at < slid for at in admitted) == 30  # its part of the remainder
    assert sum(slid <= at < slid + US_PER_S for at in admitted) in range(90, 101)  # its share of the limit
    for at in admitted:
        assert sum(at - US_PER_S < one <= at for one in admitted) <= 100


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
    assert [more(limit, "c") for limit in (few, many, full)] == [5, 0, 5]  # its share is ten


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

"""Refusals that are repeated without asking Redis: only for equal calls and for a short time, with the wait that remains."""

from __future__ import annotations

import math

from gateway.store.limit import Costs, Limit, LimitStatus, Refusal
from gateway.store.recent_refusals import BUSY_REUSE_S, MAX_CALLS, MAX_LIMITS, REUSE_S, RecentRefusals
from tests.support.each import each

TOKENS = Limit("team:t", "tokens", 200, "min")
OWN = Limit("key:a", "requests", 5, "h")
OTHER = Limit("key:b", "requests", 5, "h")
BUDGET = Limit("key:a", "spend", 100, "day")
CALLS = Limit("key:a", "concurrent", 2)
COSTS = Costs(1, 50, 30)


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def refused(*limits: Limit, wait: float = 40.0, busy: bool = False) -> tuple[RecentRefusals, Clock, list[Limit]]:
    """Return the refusals after one by the first of these limits."""
    clock, asked = Clock(), list(limits)
    recent = RecentRefusals(clock)
    recent.add(asked, COSTS, Refusal(limits[0], wait, [LimitStatus(limit, 5, 50.0) for limit in limits], busy=busy))
    return recent, clock, asked


def test_an_equal_call_gets_the_refusal_with_the_time_that_is_left() -> None:
    recent, clock, asked = refused(TOKENS, OWN)
    clock.now += 0.25
    found = recent.find([TOKENS, OWN.with_amount(5)], Costs(1, 50, 30))
    assert found is not None
    assert (found.limit, found.retry_after, [status.reset_s for status in found.statuses]) == (TOKENS, 39.75, [49.75, 49.75])
    clock.now += REUSE_S
    assert recent.find(asked, COSTS) is None
    assert recent.by_limit == {}


@each("costs", [Costs(1, 50, 31), Costs(1, 50, 29), Costs(1, 51, 29), Costs(1, 50, 30, 7)])
def test_another_cost_is_decided_by_the_store(costs: Costs) -> None:
    recent, _, asked = refused(TOKENS, OWN)
    assert recent.find(asked, costs) is None
    assert recent.find(asked, COSTS) is not None


@each(
    "limits",
    [[TOKENS], [TOKENS, OTHER], [TOKENS, OWN, OTHER], [TOKENS.with_amount(300), OWN], [TOKENS, OWN.with_amount(6)], [OWN], []],
)
def test_a_call_with_other_limits_is_decided_by_the_store(limits: list[Limit]) -> None:
    recent, _, _ = refused(TOKENS, OWN)
    assert recent.find(limits, COSTS) is None


@each(("limit", "busy"), [(CALLS, False), (BUDGET, True)])
def test_a_refusal_that_waits_for_a_call_in_flight_is_repeated_for_a_moment(limit: Limit, busy: bool) -> None:
    recent, clock, asked = refused(limit, wait=1.0, busy=busy)
    clock.now += BUSY_REUSE_S / 2
    found = recent.find(asked, COSTS)
    assert found is not None
    assert found.retry_after == 1.0
    clock.now += BUSY_REUSE_S
    assert recent.find(asked, COSTS) is None


def test_a_total_budget_stays_used_up() -> None:
    recent, clock, asked = refused(BUDGET, wait=math.inf)
    clock.now += 0.5
    found = recent.find(asked, COSTS)
    assert found is not None
    assert found.retry_after == math.inf


def test_a_settlement_and_a_reconnect_end_the_repetition() -> None:
    recent, _, asked = refused(TOKENS, OWN)
    recent.forget([OWN])
    assert recent.find(asked, COSTS) is not None
    recent.forget([TOKENS])
    assert recent.find(asked, COSTS) is None
    recent, _, asked = refused(TOKENS, OWN)
    recent.clear()
    assert recent.find(asked, COSTS) is None


def test_the_number_of_refusals_is_bounded() -> None:
    recent = RecentRefusals(Clock())
    for number in range(MAX_CALLS + 1):
        recent.add([TOKENS], Costs(1, number), Refusal(TOKENS, 5.0))
    assert len(recent.by_limit[TOKENS.key]) <= MAX_CALLS
    for number in range(MAX_LIMITS + 1):
        limit = Limit(f"user:{number}", "requests", 1, "min")
        recent.add([limit], COSTS, Refusal(limit, 5.0))
    assert len(recent.by_limit) <= MAX_LIMITS
    assert recent.find([limit], COSTS) is not None


def test_the_waits_of_all_refusing_limits_shrink_unless_they_are_as_short_as_a_repetition() -> None:
    clock = Clock()
    recent = RecentRefusals(clock)
    waits = [(TOKENS, 40.0), (OWN, 1.5), (OTHER, REUSE_S), (BUDGET, None)]
    statuses = [LimitStatus(TOKENS, 5, 0.1), LimitStatus(OWN, 5, 50.0)]
    recent.add([TOKENS, OWN], COSTS, Refusal(TOKENS, 40.0, statuses, waits=waits))
    clock.now += 0.5
    found = recent.find([TOKENS, OWN], COSTS)
    assert found is not None
    assert found.waits == [(TOKENS, 39.5), (OWN, 1.0), (OTHER, REUSE_S), (BUDGET, None)]
    assert [status.reset_s for status in found.statuses] == [0.0, 49.5]


def test_a_short_wait_ends_the_repetition_and_never_becomes_zero() -> None:
    recent, clock, asked = refused(TOKENS, wait=0.5)
    clock.now += 0.4999
    found = recent.find(asked, COSTS)
    assert found is not None
    assert found.retry_after == 0.001
    clock.now += 0.0001
    assert recent.find(asked, COSTS) is None


def test_only_a_refusal_beyond_the_maximum_number_drops_the_others() -> None:
    recent = RecentRefusals(Clock())
    for number in range(16):
        recent.add([TOKENS], Costs(1, number), Refusal(TOKENS, 5.0))
    assert len(recent.by_limit[TOKENS.key]) == 16
    recent.add([TOKENS], Costs(1, 16), Refusal(TOKENS, 5.0))
    assert len(recent.by_limit[TOKENS.key]) == 1
    for number in range(9_999):
        limit = Limit(f"user:{number}", "requests", 1, "min")
        recent.add([limit], COSTS, Refusal(limit, 5.0))
    recent.add([TOKENS], COSTS, Refusal(TOKENS, 5.0))  # a known limit needs no more room
    assert len(recent.by_limit) == 10_000
    recent.add([OTHER], COSTS, Refusal(OTHER, 5.0))
    assert list(recent.by_limit) == [OTHER.key]


def test_an_expired_refusal_of_one_limit_does_not_hide_that_of_another() -> None:
    clock = Clock()
    recent = RecentRefusals(clock)
    recent.add([TOKENS, OWN], COSTS, Refusal(TOKENS, 0.1))
    recent.add([TOKENS, OWN], COSTS, Refusal(OWN, 5.0))
    clock.now += 0.5
    found = recent.find([TOKENS, OWN], COSTS)
    assert found is not None
    assert found.limit == OWN


@each("other", [Refusal(OWN, 0.1), None])
def test_a_limit_without_a_refusal_of_this_call_does_not_hide_that_of_a_later_limit(other: Refusal | None) -> None:
    recent = RecentRefusals(Clock())
    if other is not None:
        recent.add([TOKENS, OWN, OTHER], Costs(1, 7), other)  # of another call
    recent.add([TOKENS, OWN, OTHER], COSTS, Refusal(OTHER, 5.0))
    found = recent.find([TOKENS, OWN, OTHER], COSTS)
    assert found is not None
    assert found.limit == OTHER

"""The gauges of budgets follow settlement, show reserved amounts separately, exclude users, and start each period at zero."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.limits.budget_gauge import MAX_READ, BudgetGauge
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import NO_COSTS, Costs, Limit, LimitUsage, Refusal, Reservation
from gateway.store.memory import MemoryLimiter

DOLLAR = 10**9
BUDGET = Limit("team:search", "spend", 10 * DOLLAR, "month")
TEAM = ("team", "search")


class FailingOnce(MemoryLimiter):
    """A limiter whose first read fails."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.errors = [error]

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Fail once, then return the usage."""
        if self.errors:
            raise self.errors.pop()("away")
        return await super().usage(limits)


class CountingReads(MemoryLimiter):
    """A limiter that lists the limits of each read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[Limit]] = []

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage."""
        self.reads.append(list(limits))
        return await super().usage(limits)


async def admitted(limiter: MemoryLimiter, gauge: BudgetGauge, spend: int, id: str, budget: Limit = BUDGET) -> Reservation:
    """Reserve an amount, and note the budget as a decision does."""
    found = await limiter.admit((budget,), Costs(spend=spend), id)
    assert isinstance(found, Reservation)
    gauge.note(found.limits)
    return found


async def settled(limiter: MemoryLimiter, gauge: BudgetGauge, reservation: Reservation, spend: int) -> None:
    """Settle an amount, and note the budget as a settlement does."""
    limiter.settle(reservation, Costs(spend=spend))
    gauge.note(reservation.limits)


async def test_a_reserved_amount_is_apart_from_the_spent_one_and_goes_with_settlement() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    call = await admitted(limiter, gauge, 9 * DOLLAR, "one")
    await gauge.refresh(limiter)
    assert (gauge.values("used"), gauge.values("reserved")) == ({TEAM: 0.0}, {TEAM: 0.9})
    await settled(limiter, gauge, call, DOLLAR // 50)
    await gauge.refresh(limiter)
    assert (gauge.values("used"), gauge.values("reserved")) == ({TEAM: 0.002}, {TEAM: 0.0})


async def test_settlements_of_other_processes_are_seen_while_an_amount_is_reserved() -> None:
    limiter, gauge, other = MemoryLimiter(), BudgetGauge(), BudgetGauge()
    theirs = await admitted(limiter, other, 5 * DOLLAR, "theirs")
    await settled(limiter, gauge, await admitted(limiter, gauge, 4 * DOLLAR, "ours"), DOLLAR)
    await gauge.refresh(limiter)
    assert gauge.values("reserved") == {TEAM: 0.5}
    await settled(limiter, other, theirs, 2 * DOLLAR)
    await gauge.refresh(limiter)
    assert (gauge.values("used"), gauge.values("reserved")) == ({TEAM: 0.3}, {TEAM: 0.0})


@given(st.lists(st.tuples(st.integers(0, DOLLAR), st.integers(0, DOLLAR), st.booleans()), min_size=1, max_size=8))
def test_shares_are_the_sums_of_settled_and_of_reserved_amounts(calls: list[tuple[int, int, bool]]) -> None:
    async def run() -> None:
        limiter, gauge, spent, reserved = MemoryLimiter(), BudgetGauge(), 0, 0
        for number, (bound, cost, ends) in enumerate(calls):
            call = await admitted(limiter, gauge, bound, str(number))
            if ends:
                await settled(limiter, gauge, call, min(cost, bound))
            spent, reserved = spent + ends * min(cost, bound), reserved + (not ends) * bound
            await gauge.refresh(limiter)
            assert gauge.values("used")[TEAM] == pytest.approx(spent / BUDGET.amount)
            assert gauge.values("reserved")[TEAM] == pytest.approx(reserved / BUDGET.amount)

    asyncio.run(run())


async def test_a_refused_call_shows_the_budget_as_it_is() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    await settled(limiter, gauge, await admitted(limiter, gauge, 9 * DOLLAR, "one"), 9 * DOLLAR)
    refused = await limiter.admit((BUDGET,), Costs(spend=9 * DOLLAR), "two")
    assert not isinstance(refused, Reservation)
    gauge.note((BUDGET,))
    await gauge.refresh(limiter)
    assert gauge.values("used") == {TEAM: 0.9}


def test_a_new_period_begins_at_zero_and_the_largest_of_several_budgets_counts() -> None:
    now = 0.0
    gauge = BudgetGauge(lambda: now)
    day = Limit("key:app", "spend", 10 * DOLLAR, "day")
    month = Limit("key:app", "spend", 100 * DOLLAR, "month")
    gauge.record([LimitUsage(day, 9 * DOLLAR, 3 * DOLLAR, 60.0), LimitUsage(month, 23 * DOLLAR, 3 * DOLLAR, 600.0)])
    assert (gauge.values("used"), gauge.values("reserved")) == ({("key", "app"): 0.6}, {("key", "app"): 0.3})
    now = 61.0
    assert (gauge.values("used"), gauge.values("reserved")) == ({("key", "app"): 0.2}, {("key", "app"): 0.03})


async def test_other_limits_and_user_budgets_are_not_shown() -> None:
    gauge = BudgetGauge()
    gauge.note([Limit("key:app", "requests", 10, "min"), Limit("user:app:0123", "spend", 10 * DOLLAR, "day")])
    await gauge.refresh(MemoryLimiter())
    assert gauge.values("used") == {}


def test_the_number_of_budgets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller with a token may have a budget."""
    monkeypatch.setattr("gateway.limits.budget_gauge.MAX_BUDGETS", 3)
    now = 0.0
    gauge = BudgetGauge(lambda: now)
    budgets = [Limit(f"key:staff/{number}", "spend", 10 * DOLLAR, "day") for number in range(6)]
    for _ in range(2):
        gauge.note(budgets)
    assert list(gauge._noted.values()) == budgets[:3]

    def names(known: Sequence[Limit]) -> list[str]:
        gauge.record([LimitUsage(budget, DOLLAR, 0, 60.0) for budget in known])
        return [name for _, name in gauge.values("used")]

    assert names(budgets) == ["staff/0", "staff/1", "staff/2"]
    assert names(budgets[1:4]) == ["staff/0", "staff/1", "staff/2"]
    now = 61.0
    assert names(budgets[4:]) == ["staff/4", "staff/5"]


def test_the_number_of_news_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.budget_gauge.MAX_BUDGETS", 3)
    gauge = BudgetGauge(lambda: 0.0)
    budgets = [Limit(f"key:staff/{number}", "spend", 10 * DOLLAR, "day") for number in range(5)]
    for reset_s in (60.0, 50.0):
        gauge.record([LimitUsage(budget, DOLLAR, 0, reset_s) for budget in budgets])
        for budget in budgets:
            gauge.note_refusal(Refusal(budget, reset_s))
    read, refused = gauge.take_news()
    assert [(usage.limit, usage.reset_s) for usage in read] == [(budget, 50.0) for budget in budgets[:3]]
    assert refused == [LimitUsage(budget, budget.amount, 0, 50.0) for budget in budgets[:3]]


def test_shares_are_shown_and_kept_until_exactly_the_next_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.budget_gauge.MAX_BUDGETS", 2)
    now = 0.0
    gauge = BudgetGauge(lambda: now)
    first, second, third = (Limit(f"key:{name}", "spend", 10 * DOLLAR, "day") for name in ("first", "second", "third"))
    gauge.record([LimitUsage(first, DOLLAR, 0, 60.0), LimitUsage(second, DOLLAR, 0, 60.5)])
    now = 59.5
    assert gauge.values("used") == {("key", "first"): 0.1, ("key", "second"): 0.1}
    now = 60.0
    assert gauge.values("used") == {("key", "first"): 0.0, ("key", "second"): 0.1}
    gauge.record([LimitUsage(third, DOLLAR, 0, 60.0)])
    assert gauge.values("used") == {("key", "second"): 0.1, ("key", "third"): 0.1}


async def test_a_budget_of_zero_is_fully_used() -> None:
    gauge = BudgetGauge()
    gauge.note([Limit("model:free", "spend", 0, "day")])
    await gauge.refresh(MemoryLimiter())
    assert (gauge.values("used"), gauge.values("reserved")) == ({("model", "free"): 1.0}, {("model", "free"): 0.0})


@pytest.mark.parametrize("error", [StoreUnavailableError, TimeoutError])
async def test_a_failed_read_is_repeated_by_the_next_refresh(error: type[Exception]) -> None:
    limiter, gauge = FailingOnce(error), BudgetGauge()
    await settled(limiter, gauge, await admitted(limiter, gauge, DOLLAR, "one"), DOLLAR)
    await gauge.refresh(limiter)
    assert gauge.values("used") == {}
    await gauge.refresh(limiter)
    assert gauge.values("used") == {TEAM: 0.1}


async def test_a_budget_is_read_once_after_it_is_settled() -> None:
    limiter, gauge = CountingReads(), BudgetGauge()
    await settled(limiter, gauge, await admitted(limiter, gauge, DOLLAR, "one"), DOLLAR)
    for _ in range(3):
        await gauge.refresh(limiter)
    assert limiter.reads == [[BUDGET]]


def test_a_budget_that_ended_is_shown_as_unused_while_there_is_room() -> None:
    now = 0.0
    gauge = BudgetGauge(lambda: now)
    gauge.record([LimitUsage(BUDGET, DOLLAR, 0, 60.0)])
    now = 61.0
    gauge.record([LimitUsage(Limit("key:app", "spend", 10 * DOLLAR, "day"), DOLLAR, 0, 60.0)])
    assert gauge.values("used") == {TEAM: 0.0, ("key", "app"): 0.1}


async def test_many_budgets_are_read_in_turn() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    budgets = [Limit(f"key:{number}", "spend", DOLLAR, "day") for number in range(MAX_READ + 2)]
    for budget in budgets:
        await admitted(limiter, gauge, 1, budget.owner, budget)  # stays reserved, so it is read again and again
    await gauge.refresh(limiter)
    assert len(gauge.values("used")) == MAX_READ
    await gauge.refresh(limiter)
    assert len(gauge.values("used")) == MAX_READ + 2


async def test_an_abandoned_reservation_frees_the_reserved_share() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    call = await admitted(limiter, gauge, DOLLAR, "one")
    limiter.settle(call, NO_COSTS)
    gauge.note(call.limits)
    await gauge.refresh(limiter)
    assert (gauge.values("used"), gauge.values("reserved")) == ({TEAM: 0.0}, {TEAM: 0.0})


async def test_news_are_the_usages_read_since_the_last_time() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    await settled(limiter, gauge, await admitted(limiter, gauge, DOLLAR, "one"), DOLLAR)
    assert gauge.take_news() == ([], [])
    await gauge.refresh(limiter)
    (usage,), refused = gauge.take_news()
    assert (usage.limit, usage.used, refused) == (BUDGET, DOLLAR, [])
    assert gauge.take_news() == ([], [])


@pytest.mark.parametrize(
    ("refusal", "is_noted"),
    [
        (Refusal(BUDGET, 60.0), True),
        (Refusal(Limit("key:app", "spend", DOLLAR, "total"), math.inf), True),
        (Refusal(BUDGET, 0.0), True),
        (Refusal(BUDGET, None), False),
        (Refusal(BUDGET, 60.0, busy=True), False),
        (Refusal(BUDGET, 60.0, unavailable=True), False),
        (Refusal(BUDGET, 60.0, degraded=True), False),
        (Refusal(Limit("key:app", "requests", 10, "min"), 60.0), False),
        (Refusal(Limit("user:app:u", "spend", DOLLAR, "day"), 60.0), False),
    ],
)
def test_only_a_budget_that_is_used_up_is_noted_as_refusing(refusal: Refusal, is_noted: bool) -> None:
    gauge = BudgetGauge()
    gauge.note_refusal(refusal)
    limit = refusal.limit
    assert gauge.take_news() == ([], [LimitUsage(limit, limit.amount, 0, refusal.retry_after or 0.0)] * is_noted)
    assert gauge.take_news() == ([], [])


async def test_a_new_configuration_shows_the_known_budgets_with_their_new_amounts() -> None:
    limiter, old, new = MemoryLimiter(), BudgetGauge(), BudgetGauge()
    gone = Limit("key:gone", "spend", 10 * DOLLAR, "day")
    for id, budget in (("one", BUDGET), ("two", gone)):
        await settled(limiter, old, await admitted(limiter, old, DOLLAR, id, budget), BUDGET.amount // 2)
    await old.refresh(limiter)
    old.hand_over(new)
    await new.refresh(limiter, lambda owners: [BUDGET.with_amount(BUDGET.amount * 2)])
    assert new.values("used") == {TEAM: 0.25}
    assert [usage.limit.amount for usage in new.take_news()[0]] == [BUDGET.amount * 2]


async def test_a_call_that_ends_after_two_reloads_is_seen_by_the_newest_configuration() -> None:
    limiter, gauges = MemoryLimiter(), [BudgetGauge(), BudgetGauge(), BudgetGauge()]
    held = await admitted(limiter, gauges[0], BUDGET.amount // 2, "long")
    for before, after in pairwise(gauges):
        before.hand_over(after)
    await gauges[2].refresh(limiter, lambda owners: [BUDGET])
    assert (gauges[2].values("used"), gauges[2].values("reserved")) == ({TEAM: 0.0}, {TEAM: 0.5})
    await settled(limiter, gauges[0], held, BUDGET.amount // 4)
    gauges[0].note_refusal(Refusal(BUDGET, 60.0))
    await gauges[2].refresh(limiter, lambda owners: [BUDGET])
    assert (gauges[2].values("used"), gauges[2].values("reserved")) == ({TEAM: 0.25}, {TEAM: 0.0})
    news, refusals = gauges[2].take_news()
    assert [usage.used for usage in news] == [BUDGET.amount // 4]
    assert [usage.limit for usage in refusals] == [BUDGET]


async def test_the_budget_of_a_deleted_key_is_no_longer_shown() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    kept, deleted, caller = (Limit(f"key:{name}", "spend", 10 * DOLLAR, "total") for name in ("kept", "deleted", "staff/alice"))
    for budget in (kept, deleted, caller):
        await settled(limiter, gauge, await admitted(limiter, gauge, DOLLAR, budget.owner, budget), 5 * DOLLAR)
    await gauge.refresh(limiter, lambda owners: pytest.fail("nothing has changed"))
    gauge.recheck()
    await gauge.refresh(limiter, lambda owners: [kept.with_amount(20 * DOLLAR)])
    assert gauge.values("used") == {("key", "kept"): 0.25, ("key", "staff/alice"): 0.5}


async def test_each_budget_that_is_used_up_is_noted_as_refusing_whatever_other_limits_refuse() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    day, reserved, tokens = (
        Limit("key:app", "spend", 10, "day"),
        Limit("model:m", "spend", 10, "total"),
        Limit("key:app", "prompt_tokens", 10, "day"),
    )
    small, limits = Limit("provider:up", "spend", 3, "day"), (day, reserved, BUDGET, tokens)
    spent = await limiter.admit((day, tokens), Costs(1, 9, 0, 9), "spent")
    assert isinstance(spent, Reservation)
    limiter.settle(spent, Costs(1, 9, 0, 9))
    await limiter.admit((reserved,), Costs(1, 9, 0, 9), "in flight")
    refused = await limiter.admit((*limits, small), Costs(1, 5, 0, 5), "refused")
    assert isinstance(refused, Refusal)
    for limit in (day, tokens):
        gauge.note_refusal(replace(refused, limit=limit))
        assert [usage.limit for usage in gauge.take_news()[1]] == [day]

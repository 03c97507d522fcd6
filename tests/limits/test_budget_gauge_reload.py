"""What the gauges of budgets keep, forget and learn when a configuration is replaced or keys change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from gateway.limits.budget_gauge import BudgetGauge
from gateway.store.limit import Costs, Limit, LimitUsage, Refusal
from tests.limits.test_budget_gauge import BUDGET, DOLLAR, TEAM, CountingReads, admitted


def handed_over(count: int) -> list[BudgetGauge]:
    """Return the gauges of configurations of which each replaced the one before."""
    gauges = [BudgetGauge() for _ in range(count)]
    for before, after in pairwise(gauges):
        before.hand_over(after)
    return gauges


@pytest.mark.parametrize("count", [2, 3])
async def test_a_call_of_a_replaced_configuration_makes_the_newest_one_read_its_budgets(count: int) -> None:
    limiter, gauges = CountingReads(), handed_over(count)
    oldest, newest = gauges[0], gauges[-1]
    tokens = Limit("key:app", "tokens", 100, "day")
    reservation = await limiter.admit((BUDGET, tokens), Costs(1, 9), "long")
    limiter.settle(reservation, Costs(1, 9, 0, BUDGET.amount // 4))  # type: ignore[arg-type]
    oldest.note((BUDGET, tokens))
    assert oldest._noted == {}
    double = BUDGET.with_amount(BUDGET.amount * 2)
    await newest.refresh(limiter, lambda owners: [tokens, double])
    assert limiter.reads == [[double]]
    assert newest.values("used") == {TEAM: 0.125}


def test_refusals_of_which_no_message_was_sent_are_handed_over() -> None:
    old, new, other = BudgetGauge(), BudgetGauge(), Limit("key:app", "spend", DOLLAR, "day")
    new.note_refusal(Refusal(other, 60.0))
    old.note_refusal(Refusal(BUDGET, 60.0))
    old.hand_over(new)
    assert [usage.limit for usage in new.take_news()[1]] == [other, BUDGET]


def test_the_number_of_inherited_budgets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.budget_gauge.MAX_BUDGETS", 2)
    old, new = handed_over(2)
    budgets = [Limit(f"key:staff/{number}", "spend", DOLLAR, "day") for number in range(3)]
    for budget in budgets:
        old.note([budget])
    assert new._unchecked.keys() == {budget.key for budget in budgets[:2]}


async def test_a_budget_that_no_longer_exists_is_not_read_again() -> None:
    limiter, gauge = CountingReads(), BudgetGauge()
    kept, deleted, caller = (Limit(f"key:{name}", "spend", 10 * DOLLAR, "total") for name in ("kept", "deleted", "staff/alice"))
    for budget in (kept, deleted, caller):
        await admitted(limiter, gauge, DOLLAR, budget.owner, budget)
    gauge.recheck()
    new = Limit("key:new", "spend", DOLLAR, "total")
    await gauge.refresh(limiter, lambda owners: [new, kept])
    assert [[limit.owner for limit in limits] for limits in limiter.reads] == [["key:kept", "key:staff/alice"]]


async def test_only_budgets_of_owners_other_than_users_are_noted_among_several_limits() -> None:
    limiter, gauge = CountingReads(), BudgetGauge()
    of_user = Limit("user:app:0", "spend", DOLLAR, "day")
    gauge.note([Limit("key:app", "tokens", 9, "h"), of_user, BUDGET, Limit("key:app", "requests", 9, "h")])
    await gauge.refresh(limiter)
    assert limiter.reads == [[BUDGET]]


def test_a_known_budget_is_noted_again_beside_one_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.budget_gauge.MAX_BUDGETS", 1)
    gauge, other, changed = BudgetGauge(), Limit("key:app", "spend", DOLLAR, "day"), BUDGET.with_amount(DOLLAR)
    gauge.note([BUDGET])
    gauge.note([other, changed])
    assert list(gauge._noted.values()) == [changed]


class SlowReads(CountingReads):
    """A limiter that calls a function during each read."""

    def __init__(self, during: Callable[[], None]) -> None:
        super().__init__()
        self._during = during

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage."""
        found = await super().usage(limits)
        self._during()
        return found


async def test_a_budget_that_is_read_for_the_first_time_during_a_reload_is_handed_over() -> None:
    old, new = BudgetGauge(), BudgetGauge()
    limiter = SlowReads(lambda: old.hand_over(new))
    await admitted(limiter, old, DOLLAR, "long")
    await old.refresh(limiter)
    double = BUDGET.with_amount(BUDGET.amount * 2)
    again = CountingReads()
    await new.refresh(again, lambda owners: [double])
    assert again.reads == [[double]]


async def test_a_budget_that_is_deleted_while_it_is_read_for_the_first_time_is_forgotten() -> None:
    gauge = BudgetGauge()
    limiter = SlowReads(gauge.recheck)
    reservation = await admitted(limiter, gauge, DOLLAR, "long")
    limiter.settle(reservation, Costs(spend=DOLLAR))
    await gauge.refresh(limiter)
    again = CountingReads()
    await gauge.refresh(again, lambda owners: [])
    assert (again.reads, gauge.values("used")) == ([], {})

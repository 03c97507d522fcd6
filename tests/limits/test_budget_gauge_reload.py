"""What the gauges of budgets keep, forget and learn when a configuration is replaced or keys change."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.limits.budget_gauge import BudgetGauge
from gateway.store.limit import Costs, Limit, Refusal
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

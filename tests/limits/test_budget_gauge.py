"""How far budgets are used: what the latest decision left, nothing of users, zero in a new period."""

from __future__ import annotations

from gateway.limits.budget_gauge import BudgetGauge
from gateway.store.limit import Costs, Limit, LimitStatus
from gateway.store.memory import MemoryLimiter

DOLLAR = 10**9


def test_the_latest_decision_counts_and_a_new_period_begins_at_zero() -> None:
    now = 0.0
    use = BudgetGauge(lambda: now)
    budget = Limit("key:app", "spend", 10 * DOLLAR, "day")
    use.record([LimitStatus(budget, 4 * DOLLAR, 60.0)])
    assert use.values() == {("key", "app"): 0.6}
    use.record([LimitStatus(budget, 1 * DOLLAR, 50.0)])
    assert use.values() == {("key", "app"): 0.9}
    now = 51.0
    assert use.values() == {("key", "app"): 0.0}


def test_other_limits_and_user_budgets_are_not_shown() -> None:
    use = BudgetGauge()
    use.record([LimitStatus(Limit("key:app", "requests", 10, "min"), 1, 60.0)])
    use.record([LimitStatus(Limit("user:app:0123", "spend", 10 * DOLLAR, "day"), 0, 60.0)])
    assert use.values() == {}


def test_a_budget_of_zero_is_fully_used() -> None:
    use = BudgetGauge()
    use.record([LimitStatus(Limit("model:free", "spend", 0, "day"), 0, 60.0)])
    assert use.values() == {("model", "free"): 1.0}


async def test_a_real_decision_updates_the_gauge() -> None:
    limiter, use = MemoryLimiter(), BudgetGauge()
    budget = Limit("team:search", "spend", 10 * DOLLAR, "month")
    found = await limiter.admit((budget,), Costs(1, 0, 0, 9 * DOLLAR), "one")
    use.record(found.statuses)
    assert use.values() == {("team", "search"): 0.9}
    refused = await limiter.admit((budget,), Costs(1, 0, 0, 9 * DOLLAR), "two")
    use.record(refused.statuses)
    assert use.values() == {("team", "search"): 0.9}

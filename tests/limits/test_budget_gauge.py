"""The gauge of budget use: follows the latest decision, excludes user budgets, starts each period at zero."""

from __future__ import annotations

from gateway.limits.budget_gauge import BudgetGauge
from gateway.store.limit import Costs, Limit, LimitStatus
from gateway.store.memory import MemoryLimiter

DOLLAR = 10**9


def test_the_latest_decision_counts_and_a_new_period_begins_at_zero() -> None:
    now = 0.0
    gauge = BudgetGauge(lambda: now)
    budget = Limit("key:app", "spend", 10 * DOLLAR, "day")
    gauge.record([LimitStatus(budget, 4 * DOLLAR, 60.0)])
    assert gauge.values() == {("key", "app"): 0.6}
    gauge.record([LimitStatus(budget, 1 * DOLLAR, 50.0)])
    assert gauge.values() == {("key", "app"): 0.9}
    now = 51.0
    assert gauge.values() == {("key", "app"): 0.0}


def test_other_limits_and_user_budgets_are_not_shown() -> None:
    gauge = BudgetGauge()
    gauge.record([LimitStatus(Limit("key:app", "requests", 10, "min"), 1, 60.0)])
    gauge.record([LimitStatus(Limit("user:app:0123", "spend", 10 * DOLLAR, "day"), 0, 60.0)])
    assert gauge.values() == {}


def test_a_budget_of_zero_is_fully_used() -> None:
    gauge = BudgetGauge()
    gauge.record([LimitStatus(Limit("model:free", "spend", 0, "day"), 0, 60.0)])
    assert gauge.values() == {("model", "free"): 1.0}


async def test_a_real_decision_updates_the_gauge() -> None:
    limiter, gauge = MemoryLimiter(), BudgetGauge()
    budget = Limit("team:search", "spend", 10 * DOLLAR, "month")
    found = await limiter.admit((budget,), Costs(1, 0, 0, 9 * DOLLAR), "one")
    gauge.record(found.statuses)
    assert gauge.values() == {("team", "search"): 0.9}
    refused = await limiter.admit((budget,), Costs(1, 0, 0, 9 * DOLLAR), "two")
    gauge.record(refused.statuses)
    assert gauge.values() == {("team", "search"): 0.9}

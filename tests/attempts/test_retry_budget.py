"""Retries are limited to a share of the calls, so they cannot multiply the load. A few retries are always possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.attempts.retry_budget import FLOOR, RetryBudget


def test_a_few_retries_are_possible_without_other_calls_and_again_some_time_later() -> None:
    now = [0.0]
    budget = RetryBudget(clock=lambda: now[0])
    assert sum(budget.take() for _ in range(50)) == FLOOR
    now[0] += 3
    assert sum(budget.take() for _ in range(50)) == 3


@given(st.lists(st.sampled_from(["earn", "take"]), max_size=500))
def test_retries_never_exceed_the_share_and_the_floor(steps: list[str]) -> None:
    budget = RetryBudget(clock=lambda: 0.0)
    calls = taken = 0
    for step in steps:
        if step == "earn":
            budget.earn()
            calls += 1
        else:
            taken += budget.take()
    assert taken <= max(FLOOR, 0.2 * calls) + 1e-6


def test_retry_that_was_not_sent_is_given_back() -> None:
    budget = RetryBudget(clock=lambda: 0.0)
    for _ in range(100):
        assert budget.take()
        budget.give_back()


@given(st.floats(0.0001, 0.5))
def test_a_share_of_one_allows_a_retry_for_every_call(pause: float) -> None:
    now = [0.0]
    budget = RetryBudget(1.0, clock=lambda: now[0])
    for _ in range(100):
        now[0] += pause
        budget.earn()
        assert budget.take()

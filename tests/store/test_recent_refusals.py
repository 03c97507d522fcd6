"""Refusals that apply to further calls without asking Redis."""

from __future__ import annotations

from gateway.store.limit import Costs, Limit, Refusal
from gateway.store.recent_refusals import MAX_REMEMBERED_REFUSALS, RecentRefusals

HOUR, CALLS = Limit("k", "tokens", 100, "h"), Limit("k", "concurrent", 2)


def test_a_refusal_applies_to_calls_that_use_at_least_as_much() -> None:
    refusals = RecentRefusals()
    refusals.add(Refusal(HOUR, 500.0), 500.0, 40)
    assert refusals.find([CALLS, HOUR], Costs(prompt_tokens=39)) is None
    found = refusals.find([CALLS, HOUR], Costs(prompt_tokens=40))
    assert found is not None
    assert 499 < (found.retry_after or 0) <= 500
    alone = refusals.find([HOUR], Costs(prompt_tokens=101))
    assert alone is not None
    assert alone.retry_after is None  # the call exceeds the whole limit
    assert refusals.find([Limit("other", "tokens", 100, "h")], Costs(prompt_tokens=90)) is None


def test_a_refusal_whose_time_is_over_is_forgotten() -> None:
    refusals = RecentRefusals()
    refusals.add(Refusal(CALLS, 0.0), 0.0, 1)
    assert refusals.find([CALLS], Costs()) is None
    assert refusals.by_key == {}


def test_the_number_of_refusals_is_bounded() -> None:
    refusals = RecentRefusals()
    assert refusals.has_room
    for at in range(MAX_REMEMBERED_REFUSALS):
        refusals.by_key[str(at)] = (0.0, 1, Refusal(CALLS, 1.0))
    assert not refusals.has_room

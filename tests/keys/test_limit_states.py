"""The states of limits as JSON: amounts in their unit, reserved amounts apart from used ones, and the time of the reset."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.config.key import KeyConfig, ModelAccess, TeamConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.keys.limit_states import limit_states, limits_of_entry
from gateway.store.limit import NANO_PER_USD, Limit, LimitUsage

BUDGET = LimitsConfig(spend=(Rate(5 * NANO_PER_USD, "day"), Rate(50 * NANO_PER_USD, "total")))


def test_a_budget_shows_spent_apart_from_reserved_in_dollars() -> None:
    limit = Limit("key:a", "spend", 5 * NANO_PER_USD, "day")
    (state,) = limit_states([LimitUsage(limit, 3 * NANO_PER_USD, NANO_PER_USD, 60.0)])
    assert (state["spent"], state["reserved"], state["remaining"], state["limit"]) == (2.0, 1.0, 2.0, 5.0)
    assert (state["owner"], state["name"], state["window"], state["unit"]) == ("key", "a", "day", "USD")


def test_a_budget_shows_the_end_of_its_period_before_anything_is_spent() -> None:
    daily, total = limit_states(LimitUsage(limit, 0, 0, 0.0) for limit in limits_of_entry(KeyConfig("a", "h", limits=BUDGET)))
    reset = datetime.fromisoformat(daily["reset_at"])
    assert (reset.hour, reset.minute, reset.second, reset.tzinfo) == (0, 0, 0, UTC)
    assert total["reset_at"] is None


def test_a_window_shows_its_reset_only_if_something_is_used() -> None:
    limit = Limit("key:a", "tokens", 100, "min")
    unused, used = limit_states([LimitUsage(limit, 0, None, 0.0), LimitUsage(limit, 40, None, 30.0)])
    assert (unused["reset_at"], unused["remaining"]) == (None, 100)
    assert (used["used"], used["remaining"]) == (40, 60)
    assert datetime.fromisoformat(used["reset_at"]) > datetime.now(UTC)
    assert "spent" not in used


def test_an_entry_has_its_own_limits_and_those_for_single_models() -> None:
    models = {"gpt-5*": ModelAccess(LimitsConfig(requests=(Rate(1, "min"),))), "smart": ModelAccess()}
    team = TeamConfig("search", models=models, limits=LimitsConfig(concurrent=3))
    states = limit_states(LimitUsage(limit, 0, None, 0.0) for limit in limits_of_entry(team))
    assert [(state["owner"], state["kind"], state["model"]) for state in states] == [
        ("team", "concurrent", None),
        ("team", "requests", "gpt-5*"),
    ]

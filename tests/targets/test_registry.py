"""The registry keeps the health of targets across reloads and reports cooldowns."""

from __future__ import annotations

import providers
from gateway.config.provider import ProviderConfig
from gateway.targets.registry import TargetRegistry
from providers.base import Failure, Target

PROVIDERS = {"p": ProviderConfig(name="p")}


def target(name: str = "p/m", credential: str = "one") -> Target:
    """Return a target of the provider in its name."""
    return Target(name, name.partition("/")[0], providers.get("openai"), "m", "http://localhost/v1", credential)


def test_the_health_of_a_target_survives_a_reload() -> None:
    registry = TargetRegistry()
    registry.configure(PROVIDERS)
    health = registry.health_of(target())
    registry.configure(PROVIDERS)
    assert registry.health_of(target()) is health


def test_targets_of_removed_providers_are_dropped_unless_calls_are_in_flight() -> None:
    registry = TargetRegistry()
    registry.configure({**PROVIDERS, "q": ProviderConfig(name="q")})
    registry.health_of(target("q/idle"))
    registry.health_of(target("q/busy")).start_attempt()
    registry.configure(PROVIDERS)
    assert [health.name for health in registry.all()] == ["q/busy"]


def test_a_target_is_live_until_it_cools_down() -> None:
    registry = TargetRegistry()
    registry.configure(PROVIDERS)
    assert registry.is_live("p/m")
    registry.health_of(target()).record_failure(target(), Failure("quota", "", 402))
    assert not registry.is_live("p/m")


def test_a_refused_credential_is_reported_once_until_the_next_reload() -> None:
    registry, refused = TargetRegistry(), []
    registry.on_credential_refused = lambda: refused.append(1)
    for _ in range(2):
        registry.configure(PROVIDERS)
        for _ in range(3):
            registry.health_of(target()).record_failure(target(), Failure("auth", "", 401))
    assert len(refused) == 2


def test_a_remote_cooldown_applies_to_targets_of_known_providers_only() -> None:
    registry = TargetRegistry()
    registry.configure(PROVIDERS)
    registry.apply_remote("p/new", None, 30.0, "failures")
    registry.apply_remote("gone/m", None, 30.0, "failures")
    assert [health.name for health in registry.all()] == ["p/new"]
    assert not registry.is_live("p/new")
    registry.end_remote("p/new", None, 0.0)
    assert registry.is_live("p/new")

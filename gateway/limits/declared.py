"""The limits that a configuration and its run-time keys and teams declare, for displays of their usage."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.types import Config
from gateway.store.from_config import limits_in, model_limits_in
from gateway.store.limit import Limit


def declared_limits(
    config: Config, runtime_keys: Iterable[KeyConfig] = (), runtime_teams: Iterable[TeamConfig] = ()
) -> list[Limit]:
    """Return the limits of keys, teams, models, providers and targets. The limits of individual users are left out."""
    limits: list[Limit] = []
    for kind, entries in (("key", [*config.keys.values(), *runtime_keys]), ("team", [*config.teams.values(), *runtime_teams])):
        for entry in entries:
            owner = f"{kind}:{entry.name}"
            limits += limits_in(entry.limits, owner)
            for _, some in model_limits_in(entry, owner):
                limits += some
    for name, model in config.models.items():
        limits += limits_in(model.limits, f"model:{name}")
    for name, provider in config.providers.items():
        limits += limits_in(provider.limits, f"provider:{name}", "target")
        for model_name, target in provider.models.items():
            limits += limits_in(target.limits, f"target:{name}/{model_name}", "target")
    return limits

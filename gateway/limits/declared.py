"""The limits that a configuration and its run-time keys and teams declare, for displays of their usage."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from gateway.config.issuer import key_of_policy, policies_of
from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.types import Config
from gateway.store.from_config import limits_in, model_limits_in
from gateway.store.limit import Limit

Entry = TypeVar("Entry")


def declared_limits(
    config: Config,
    runtime_keys: Iterable[KeyConfig] = (),
    runtime_teams: Iterable[TeamConfig] = (),
    *,
    owners: Collection[str] | None = None,
) -> list[Limit]:
    """Return the limits of keys, teams, models, providers and targets, but not those of individual users and token callers.

    If `owners` is given, the other keys, teams and models of the configuration are left out.
    """
    limits: list[Limit] = []
    keys = [*_owners_among(config.keys, "key:", owners), *runtime_keys]
    teams = [*_owners_among(config.teams, "team:", owners), *runtime_teams]
    for kind, entries in (("key", keys), ("team", teams)):
        for entry in entries:
            limits += _limits_of(entry, f"{kind}:{entry.name}")
    for model in _owners_among(config.models, "model:", owners):
        limits += limits_in(model.limits, f"model:{model.name}")
    for name, provider in config.providers.items():
        limits += limits_in(provider.limits, f"provider:{name}", "target")
        for model_name, target in provider.models.items():
            limits += limits_in(target.limits, f"target:{name}/{model_name}", "target")
    return limits


def _owners_among(entries: Mapping[str, Entry], kind: str, owners: Collection[str] | None) -> Iterable[Entry]:
    if owners is None:
        return entries.values()
    names = [owner.removeprefix(kind) for owner in owners if owner.startswith(kind)]
    return [entries[name] for name in names if name in entries]


def caller_limits(config: Config, name: str) -> list[Limit]:
    """Return the limits of the caller ISSUER/SUBJECT under each policy of the issuer; none if there is no such issuer.

    The caller's policy is known only during a call, because the claims of the token select it.
    """
    issuer = config.issuers.get(name.partition("/")[0]) if "/" in name else None
    policies = policies_of(issuer).values() if issuer is not None else ()
    limits = [limit for policy in policies for limit in _limits_of(key_of_policy(policy, name, None), f"key:{name}")]
    return list({(limit.key, limit.amount): limit for limit in limits}.values())


def _limits_of(entry: KeyConfig | TeamConfig, owner: str) -> list[Limit]:
    """Return the limits of a key or team, with those for single models."""
    return [*limits_in(entry.limits, owner), *(limit for _, some in model_limits_in(entry, owner) for limit in some)]

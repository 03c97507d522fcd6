"""What the configuration says of keys and their teams, as the VirtualKeys that calls are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.types import Config
from gateway.keys.authenticate import Keys, VirtualKey, matches_any
from gateway.store.from_config import limits_in


def keys_of(config: Config) -> Keys:
    """The keys of one configuration. Where none is asked for, everybody who can connect is served."""
    return Keys(resolve(config.keys.values(), config.teams), open_to_all=not config.requires_keys)


def resolve(keys: Iterable[KeyConfig], teams: Mapping[str, TeamConfig]) -> dict[bytes, VirtualKey]:
    """VirtualKeys by digest. A key whose team is not there (a reload took it) is refused like a disabled one."""
    return {bytes.fromhex(one.hash.removeprefix("sha256:")): _resolve(one, teams) for one in keys}


def _resolve(one: KeyConfig, teams: Mapping[str, TeamConfig]) -> VirtualKey:
    team = teams.get(one.team) if one.team is not None else TeamConfig("")
    limits = limits_in(one.limits, f"key:{one.name}", strict=bool(one.strict))
    if team is not None and one.team is not None:
        limits += limits_in(team.limits, f"team:{one.team}")
    return VirtualKey(
        one.name,
        _both(one.models, team.models if team is not None else None),
        one.disabled or team is None or team.disabled,
        one.expires.timestamp() if one.expires else None,
        bool(one.strict),
        one.team or "",
        limits,
        one.limits_per_user if limits_in(one.limits_per_user, "") else None,
    )


def _both(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> frozenset[str] | None:
    """The models that both lists allow; None is every model."""
    if one is None or other is None:
        return None if one is other else frozenset(one if one is not None else other or ())
    return frozenset([*(name for name in one if matches_any(name, other)), *(name for name in other if matches_any(name, one))])

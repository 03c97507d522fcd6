"""Virtual keys and teams as JSON: validated like the YAML configuration, and written with the same field names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.config import yamlfile
from gateway.config.check import check_keys, check_limits, check_new_key
from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.limit import RATE_FIELDS, LimitsConfig, Rate
from gateway.config.problem import ConfigError, Problem, Problems, join
from gateway.config.read import Reader
from gateway.config.struct_types import struct_type
from gateway.config.types import Config

SOURCE = "(the request)"
MAX_NAME_CHARS = 128
"""Maximum length of the name of a key or team."""
_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def key_from_json(
    config: Config, name: str, entry: dict[str, Any], runtime_teams: Iterable[str] = (), *, check_expiry: bool = True
) -> KeyConfig:
    """Read a key as if it were `keys.NAME` of this configuration. Raise ConfigError with the problems if it is invalid.

    `runtime_teams` are the names of the teams that were created at run time. With `check_expiry`, reject an expiry in the past.
    """
    problems = Problems(SOURCE)
    where = join("keys", name)
    key = _read(problems, "key", struct_type(KeyConfig), where, name, entry)
    if isinstance(key, KeyConfig) and not len(problems):
        # check this key alone: the teams were checked when they were loaded or created
        teams = {team: TeamConfig(team) for team in (*runtime_teams, *config.teams)}
        single = replace(config, keys={name: key}, teams=teams)
        check_keys(single, problems)
        check_limits(single, problems)
        if check_expiry:
            check_new_key(key, where, problems)
    problems.raise_if_any()
    assert isinstance(key, KeyConfig)
    return key


def team_from_json(config: Config, name: str, entry: dict[str, Any]) -> TeamConfig:
    """Read a team as if it were `teams.NAME` of this configuration. Raise ConfigError with the problems if it is invalid."""
    problems = Problems(SOURCE)
    team = _read(problems, "team", struct_type(TeamConfig), join("teams", name), name, entry)
    if isinstance(team, TeamConfig) and not len(problems):
        single = replace(config, keys={}, teams={name: team})
        check_keys(single, problems)
        check_limits(single, problems)
    problems.raise_if_any()
    assert isinstance(team, TeamConfig)
    return team


def _read(problems: Problems, kind: str, type_: Any, where: str, name: str, entry: dict[str, Any]) -> Any:
    try:
        node = yamlfile.parse(msgspec.json.encode(entry))
    except yamlfile.YamlError as error:
        raise ConfigError([Problem(SOURCE, 0, 0, where, error.message)]) from None
    if not name.strip() or not name.isprintable() or name != name.strip() or len(name) > MAX_NAME_CHARS:
        message = f"a {kind}'s name must be 1 to {MAX_NAME_CHARS} printable characters, without spaces around them"
        problems.add(node.place, "name", message)
    return Reader(problems, {}, Path("/")).read(node, type_, where, name)


def key_to_json(key: KeyConfig) -> dict[str, Any]:
    """Return a key in the form of its YAML entry, without defaults."""
    entry: dict[str, Any] = {"hash": key.hash, **_access_to_json(key)}
    if key.team is not None:
        entry["team"] = key.team
    if key.expires is not None:
        entry["expires"] = key.expires.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if key.strict:
        entry["strict"] = True
    if key.bring_credentials:
        entry["bring_credentials"] = list(key.bring_credentials)
    if not key.budget_brought_credentials:
        entry["budget_brought_credentials"] = False
    if key.require_end_user:
        entry["require_end_user"] = True
    if key.capture != "none":
        entry["capture"] = key.capture
    for field, block in (("limits", key.limits), ("limits_per_user", key.limits_per_user)):
        if block != LimitsConfig():
            entry[field] = _limits_to_json(block)
    return entry


def team_to_json(team: TeamConfig) -> dict[str, Any]:
    """Return a team in the form of its YAML entry, without defaults."""
    entry = _access_to_json(team)
    if team.limits != LimitsConfig():
        entry["limits"] = _limits_to_json(team.limits)
    return entry


def _access_to_json(owner: KeyConfig | TeamConfig) -> dict[str, Any]:
    """Return the fields that keys and teams share: permitted models and paths, whether the owner is disabled, and its priority."""
    entry: dict[str, Any] = {}
    if isinstance(owner.models, dict):
        entry["models"] = {
            model: {"limits": _limits_to_json(access.limits)} if access.limits != LimitsConfig() else {}
            for model, access in owner.models.items()
        }
    elif owner.models is not None:
        entry["models"] = list(owner.models)
    if owner.passthrough is not None:
        entry["passthrough"] = list(owner.passthrough)
    if owner.disabled:
        entry["disabled"] = True
    if owner.priority is not None:
        entry["priority"] = owner.priority
    return entry


def _limits_to_json(block: LimitsConfig) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for kind in RATE_FIELDS:
        format_rate = _format_spend if kind == "spend" else _format_rate
        texts = [format_rate(rate) for rate in getattr(block, kind)]
        if texts:
            limits[kind] = texts if len(texts) > 1 else texts[0]
    if block.concurrent is not None:
        limits["concurrent"] = block.concurrent
    if block.timezone != LimitsConfig().timezone:
        limits["timezone"] = block.timezone
    if block.outage != LimitsConfig().outage:
        limits["outage"] = block.outage
    if block.strict:
        limits["strict"] = True
    return limits


def _format_rate(rate: Rate) -> str:
    return f"{_format_amount(rate.amount)}/{rate.window}"


def _format_spend(rate: Rate) -> str:
    dollars, nano = divmod(rate.amount, 10**9)
    cents = f".{nano:09d}".rstrip("0") if nano else ""
    return f"{dollars}{cents} USD/{rate.window}"


def _format_amount(amount: int) -> str:
    for factor, letter in _UNITS:
        if amount % factor == 0:
            return f"{amount // factor}{letter}"
    return str(amount)

"""Virtual keys and teams as JSON: validated like the YAML configuration, and written with the same field names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import UTC
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

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

Entry = TypeVar("Entry", KeyConfig, TeamConfig)
SOURCE = "(the request)"
MAX_NAME_CHARS = 128
"""Maximum length of the name of a key or team."""
_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


class Change(NamedTuple, Generic[Entry]):
    """A change of an entry: the entry before it, and the names of the fields that it sets or removes."""

    before: Entry
    fields: Collection[str]


def key_from_json(
    config: Config, name: str, entry: dict[str, Any], runtime_teams: Iterable[str] = (), *, change: Change[KeyConfig] | None = None
) -> KeyConfig:
    """Read a key as if it were `keys.NAME` of this configuration. Raise ConfigError with the problems if it is invalid.

    `runtime_teams` are the names of the teams that were created at run time. An expiry in the past is a problem if it is new. For a
    change of a key, problems that the key had before are ignored in all fields that the change does not touch: after a reload
    that removed a model, a key for this model can still be disabled.
    """
    where = join("keys", name)
    teams = {team: TeamConfig(team) for team in (*runtime_teams, *config.teams)}

    def read(entry: dict[str, Any]) -> tuple[Any, Problems]:
        problems = Problems(SOURCE)
        key = _read(problems, "key", struct_type(KeyConfig), where, name, entry)
        if isinstance(key, KeyConfig) and not len(problems):
            # check this key alone: the teams were checked when they were loaded or created
            _check(replace(config, keys={name: key}, teams=teams), problems)
            if change is None or "expires" in change.fields:
                check_new_key(key, where, problems)
        return key, problems

    return _checked(read, entry, change, key_to_json, KeyConfig, where)


def team_from_json(config: Config, name: str, entry: dict[str, Any], *, change: Change[TeamConfig] | None = None) -> TeamConfig:
    """Read a team as if it were `teams.NAME` of this configuration. Raise ConfigError with the problems if it is invalid.

    For a change of a team, problems that the team had before are ignored in all fields that the change does not touch.
    """
    where = join("teams", name)

    def read(entry: dict[str, Any]) -> tuple[Any, Problems]:
        problems = Problems(SOURCE)
        team = _read(problems, "team", struct_type(TeamConfig), where, name, entry)
        if isinstance(team, TeamConfig) and not len(problems):
            _check(replace(config, keys={}, teams={name: team}), problems)
        return team, problems

    return _checked(read, entry, change, team_to_json, TeamConfig, where)


def _check(config: Config, problems: Problems) -> None:
    check_keys(config, problems)
    check_limits(config, problems)


def _checked(
    read: Callable[[dict[str, Any]], tuple[Any, Problems]],
    entry: dict[str, Any],
    change: Change[Entry] | None,
    as_json: Callable[[Entry], dict[str, Any]],
    kind: type[Entry],
    where: str,
) -> Entry:
    """Return the entry that `read` returns. Raise ConfigError for its problems, but not for those that a changed entry had before."""
    value, problems = read(entry)
    if len(problems):
        known = read(as_json(change.before))[1] if change is not None else Problems(SOURCE)
        _raise_new(problems, known, where, change.fields if change is not None else ())
    if not isinstance(value, kind):
        raise ConfigError(problems.in_order)
    return value


def _raise_new(problems: Problems, known: Problems, where: str, fields: Collection[str]) -> None:
    """Raise a ConfigError with the problems that are not known, or that are in one of the fields."""
    kept = {(each.path, each.message) for each in known.in_order if _field_of(each.path, where) not in fields}
    new = [each for each in problems.in_order if (each.path, each.message) not in kept]
    if new:
        raise ConfigError(new)


def _field_of(path: str, where: str) -> str:
    """Return the field of an entry that contains a path."""
    return re.split(r"[.\[]", path.removeprefix(f"{where}."), maxsplit=1)[0]


def _read(problems: Problems, kind: str, type_: Any, where: str, name: str, entry: dict[str, Any]) -> Any:
    try:
        node = yamlfile.parse(msgspec.json.encode(entry))
    except yamlfile.YamlError as error:
        raise ConfigError([Problem(SOURCE, 0, 0, where, error.message)]) from None
    if not name.strip() or not name.isprintable() or name != name.strip() or len(name) > MAX_NAME_CHARS:
        message = f"a {kind}'s name must be 1 to {MAX_NAME_CHARS} printable characters, without spaces around them"
        problems.add(node.place, "name", message)
    if name in (".", ".."):
        problems.add(node.place, "name", f"a {kind} cannot be named '{name}': clients remove such a name from the path of a request")
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

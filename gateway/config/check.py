"""What must hold between parts of a configuration that are each right by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from gateway.catalog.prices import price_of
from gateway.config import pem
from gateway.config.files import Files
from gateway.config.limit import LimitsConfig
from gateway.config.problem import Problems, join, suggest
from gateway.config.route import Ref, refs
from gateway.config.secret import check_permissions
from gateway.config.store_address import store_address
from gateway.config.types import Config, KeyConfig, matching_wildcard

MAX_STORE_DEADLINE_S = 10
"""Seconds that callers may be made to wait for a store that hangs."""


def check_listeners(config: Config, problems: Problems) -> None:
    """No open door: callers off this machine need keys, and so does the admin listener."""
    if config.auth == "auto" and not config.keys and not config.listen.is_loopback:
        problems.add_at_path(
            "listen",
            f"{config.listen} can be reached from outside, and there are no keys: add one under keys, listen on 127.0.0.1, "
            "make keys at run time with auth: keys, or let anybody in with auth: none",
        )
    if config.auth == "keys" and not config.keys and config.admin.key_hash is None:
        problems.add_at_path(
            "auth",
            "nobody could call: there is no key, and who makes them at run time needs an admin key: set admin.key_hash, then "
            "lockgate key create --name NAME --admin URL; or add a key under keys",
        )
    if config.auth == "none" and config.keys:
        problems.add_at_path("auth", "with auth: none nobody's key is checked: remove it, or remove the keys")
    if config.admin.key_hash is None and not config.admin.listen.is_loopback:
        problems.add_at_path("admin", f"{config.admin.listen} can be reached from outside: set admin.key_hash, or listen on 127.0.0.1")
    if config.listen == config.admin.listen and config.listen.port:
        problems.add_at_path("admin", f"the admin listener needs an address of its own, {config.listen} is the callers'")


def check_keys(config: Config, problems: Problems) -> None:
    """Every key is one caller's; what keys and teams name exists."""
    seen: dict[str, str] = {}
    for name, key in config.keys.items():
        first = seen.setdefault(key.hash, name)
        if first != name and key.hash:
            problems.add_at_path(f"{join('keys', name)}.hash", f"the same key as '{first}'")
        if key.team is not None and key.team not in config.teams:
            path = f"{join('keys', name)}.team"
            problems.add_at_path(path, f"no team {problems.source_text(path)} in this file{suggest(key.team, config.teams, 'teams')}")
        _check_models(config, key.models, join("keys", name), problems)
    for name, team in config.teams.items():
        if not name.strip() or not name.isprintable():
            problems.add_at_path(join("teams", name), "a team's name is text")
        _check_models(config, team.models, join("teams", name), problems)


def check_new_key(key: KeyConfig, path: str, problems: Problems) -> None:
    """A key that is being made is good for a while; one in a file may have ended since it was written."""
    if key.expires is not None and key.expires <= datetime.now(UTC):
        ended = key.expires.isoformat(timespec="seconds").replace("+00:00", "Z")
        problems.add_at_path(f"{path}.expires", f"it ended at {ended}, so that the key would never be taken: name a later day, or leave it out")


def _check_models(config: Config, models: Iterable[str] | None, where: str, problems: Problems) -> None:
    for index, model in enumerate(models or ()):
        several = model.endswith("*") and any(name.startswith(model[:-1]) for name in config.models)
        if model not in config.models and not several and matching_wildcard(model, config.models) is None and _exposed(config, model) is None:
            path = f"{where}.models[{index}]"
            problems.add_at_path(path, f"no model {problems.source_text(path)} in this file{suggest(model, config.models, 'models')}")


def check_store(config: Config, problems: Problems) -> None:
    """What is said of the store belongs together."""
    for name, whose in (("store_password", "the store has"), ("store_sentinel_password", "Sentinels have")):
        if len(getattr(config, name)) > 1:
            problems.add_at_path(name, f"{whose} one password")
    if config.store_deadline > MAX_STORE_DEADLINE_S:
        problems.add_at_path("store_deadline", f"a call waits so long when the store hangs: {MAX_STORE_DEADLINE_S} s at most, and 50ms is usual")
    if config.store_sentinel_password and "+sentinel:" not in config.store:
        problems.add_at_path("store_sentinel_password", "no Sentinels are named: store: redis+sentinel://HOST:26379,HOST:26379/NAME/0")
    if config.store.startswith("memory:"):
        for name in ("store_password", "store_ca"):
            if getattr(config, name):
                problems.add_at_path(name, "memory:// has none: name a Redis as store")
        return
    try:
        store_address(config)
    except (ValueError, OSError) as error:
        problems.add_at_path("store", str(error))


def check_limits(config: Config, problems: Problems) -> None:
    """Budgets whose every call has a price, and settings of targets that some model leads to."""
    blocks = _limits(config)
    known = {(ref.provider, ref.model) for ref in _targets(config, config.models)}
    for name, one in () if config.expose_targets else config.providers.items():
        there = [model for other, model in known if other == name]
        for model in one.models:
            if model not in there:
                path = join(join("providers", name) + ".models", model)
                problems.add_at_path(path, f"no model of this file leads to {name}/{model}{suggest(model, there, 'targets')}")
    for path, limits, targets in blocks:
        for ref in targets if limits.spend is not None else ():
            provider = config.providers.get(ref.provider or "")
            if provider is not None and price_of(provider, ref.model) is None:
                where = join(join("providers", provider.name), "prices")
                problems.add_at_path(f"{path}.spend", f"{ref} has no known price, so that its cost cannot be counted: add it under {where}")
                break


def _limits(config: Config) -> list[tuple[str, LimitsConfig, list[Ref]]]:
    """Every block of limits, with the targets that its calls can go to."""
    found: list[tuple[str, LimitsConfig, list[Ref]]] = []
    everything = [Ref(name, "*") for name in config.providers] if config.expose_targets else []
    blocks = [(join("keys", name), one.models, one.limits, "limits") for name, one in config.keys.items()]
    blocks += [(join("keys", name), one.models, one.limits_per_user, "limits_per_user") for name, one in config.keys.items()]
    blocks += [(join("teams", name), team.models, team.limits, "limits") for name, team in config.teams.items()]
    for where, models, limits, field in blocks:
        targets: list[Ref] = []
        if limits.spend is not None and models is None:
            targets = _targets(config, config.models) + everything
        elif limits.spend is not None:
            targets = [ref for model in models or () for ref in _may_reach(config, model)]
        found.append((f"{where}.{field}", limits, targets))
    for name, model in config.models.items():
        targets = _targets(config, [name]) if model.limits.spend is not None else []
        found.append((f"{join('models', name)}.limits", model.limits, targets))
    used = _targets(config, config.models) + everything
    for name, provider in config.providers.items():
        found.append((f"{join('providers', name)}.limits", provider.limits, [ref for ref in used if ref.provider == name]))
        for there, target in provider.models.items():
            found.append((f"{join(join('providers', name) + '.models', there)}.limits", target.limits, [Ref(name, there)]))
    return found


def _may_reach(config: Config, model: str) -> list[Ref]:
    """Where calls of a key may go whose list of models has this name, or pattern."""
    named = [name for name in config.models if model.endswith("*") and name.startswith(model[:-1])]
    target = _exposed(config, model)
    return _targets(config, [_pattern(config, model), *named]) + ([target] if target is not None else [])


def _exposed(config: Config, model: str) -> Ref | None:
    """The target that a name among a key's models is, where callers may ask for targets; `openai/*` is any of them."""
    provider, slash, name = model.partition("/")
    return Ref(provider, name) if config.expose_targets and slash and name and provider in config.providers else None


def _pattern(config: Config, model: str) -> str:
    return model if model in config.models else matching_wildcard(model, config.models) or ""


def _targets(config: Config, models: Iterable[str]) -> list[Ref]:
    """Where calls for these models can go, through other models too."""
    found: list[Ref] = []
    seen: set[str] = set()
    waiting = list(models)
    while waiting:
        name = waiting.pop()
        known = config.models.get(name)
        if name in seen or known is None or known.targets is None:
            continue
        seen.add(name)
        for ref in refs(known.targets):
            if ref.provider is not None:
                found.append(ref)
            else:
                waiting.append(_pattern(config, ref.model))
    return found


def check_tls(config: Config, problems: Problems, files: Files) -> None:
    """The certificate and the key load, and belong together."""
    if config.tls is None or None in (config.tls.cert, config.tls.key):
        return
    import ssl

    try:
        if not files.is_given(Path(config.tls.key)):
            check_permissions(Path(config.tls.key), problems.source_text("tls.key"))
        pem.load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem.read_certificate(config.tls, files))
    except UnicodeDecodeError:
        problems.add_at_path("tls", "cert and key cannot be used together: not PEM")
    except ssl.SSLError as error:
        problems.add_at_path("tls", f"cert and key cannot be used together: {error.reason or 'not PEM'}")
    except (OSError, ValueError) as error:
        problems.add_at_path("tls.key", str(error))

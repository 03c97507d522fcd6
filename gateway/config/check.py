"""Checks of a configuration that has been read. Most of them compare several of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from gateway.catalog.prices import price_of
from gateway.config import pem
from gateway.config.brought_check import check_brought
from gateway.config.files import Files
from gateway.config.issuer import policy_keys
from gateway.config.issuer_check import check_name
from gateway.config.key import KeyConfig, TeamConfig, model_limits
from gateway.config.limit import NO_LIMITS, RATE_FIELDS, LimitsConfig
from gateway.config.passthrough_check import check_allowed_patterns
from gateway.config.problem import Problems, join, shorten, suggest
from gateway.config.route import Ref, refs
from gateway.config.secret import check_permissions
from gateway.config.store_address import store_address
from gateway.config.types import Config, matching_wildcard

MAX_NAMED = 20
"""Maximum number of targets that one message names."""
MAX_STORE_DEADLINE_S = 10  # each call waits this long if the store hangs


def check_listeners(config: Config, problems: Problems) -> None:
    """Refuse values of `auth` that the keys contradict, and two listeners with the same address.

    Listeners that other machines can reach must require a key. Only `auth: none` allows callers without keys there.
    """
    if config.auth == "auto" and not config.keys and not config.issuers and not config.listen.is_loopback:
        problems.add_at_path(
            "listen",
            f"{config.listen} is reachable from other machines and there are no keys: add a key under keys, listen on "
            "127.0.0.1, or set auth: keys (keys are created at run time) or auth: none (no keys)",
        )
    if config.auth == "keys" and not config.keys and not config.issuers and config.admin.key_hash is None:
        problems.add_at_path(
            "auth",
            "no keys are configured and none can be created: set admin.key_hash and run "
            "lockgate key create --name NAME --admin URL, or add a key under keys",
        )
    if config.auth == "none" and config.keys:
        problems.add_at_path("auth", "auth: none ignores the keys in this file: remove auth or remove the keys")
    if config.auth == "none" and config.issuers:
        problems.add_at_path("auth", "auth: none ignores the issuers in this file: remove auth or remove the issuers")
    if config.admin.key_hash is None and not config.admin.listen.is_loopback:
        problems.add_at_path(
            "admin",
            f"{config.admin.listen} is reachable from other machines: set admin.key_hash, or listen on 127.0.0.1",
        )
    if config.listen == config.admin.listen and config.listen.port:
        problems.add_at_path(
            "admin", f"the admin listener cannot share {config.listen} with the callers' listener: use another port"
        )


def check_keys(config: Config, problems: Problems) -> None:
    """Refuse duplicate keys, invalid names of keys and teams, and teams, models, patterns and providers that are not in the file."""
    seen: dict[str, str] = {}
    is_known = cache(partial(_is_known_model, config))  # many keys may list the same models
    for name, key in config.keys.items():
        check_name(config, name, problems)
        first = seen.setdefault(key.hash, name)
        if first != name and key.hash:
            problems.add_at_path(f"{join('keys', name)}.hash", f"same key as '{first}': every key needs its own hash")
        if key.team is not None and key.team not in config.teams:
            path = f"{join('keys', name)}.team"
            problems.add_at_path(
                path, f"no team {problems.source_text(path)} in this file{suggest(key.team, config.teams, 'teams')}"
            )
        if key.models is not None or key.passthrough is not None or key.bring_credentials or not key.budget_brought_credentials:
            _check_access(config, key, join("keys", name), problems, is_known)
    for path, policy in policy_keys(config.issuers):
        _check_access(config, policy, path, problems, is_known)
    for name, team in config.teams.items():
        if not name.strip() or not name.isprintable():
            problems.add_at_path(join("teams", name), "a team's name must be printable text")
        _check_models(config, team.models, join("teams", name), problems, is_known)
        check_allowed_patterns(config, team.passthrough, join("teams", name), problems)


def _check_access(config: Config, key: KeyConfig, where: str, problems: Problems, is_known: Callable[[str], bool]) -> None:
    """Refuse a key or policy that names providers, models or patterns that the file does not have."""
    check_brought(config, key, where, problems)
    _check_models(config, key.models, where, problems, is_known)
    check_allowed_patterns(config, key.passthrough, where, problems)


def check_new_key(key: KeyConfig, path: str, problems: Problems) -> None:
    """Refuse a new key that has already expired. A key in a file may have expired since it was written."""
    if key.expires is not None and key.expires <= datetime.now(UTC):
        ended = key.expires.isoformat(timespec="seconds").replace("+00:00", "Z")
        problems.add_at_path(f"{path}.expires", f"the key expired at {ended}: set a later date, or remove expires")


def _is_known_model(config: Config, model: str) -> bool:
    """Return whether a name or pattern stands for a model in this file, or for one that a provider may have without it."""
    is_prefix = model.endswith("*") and any(name.startswith(model[:-1]) for name in config.models)
    is_named = model in config.models or is_prefix or matching_wildcard(model, config.models) is not None
    return is_named or bool(_unnamed_targets(config, model))


def _check_models(
    config: Config, models: Iterable[str] | None, where: str, problems: Problems, is_known: Callable[[str], bool]
) -> None:
    for index, model in enumerate(models or ()):
        if not is_known(model):
            path = join(f"{where}.models", model) if isinstance(models, dict) else f"{where}.models[{index}]"
            written = shorten(model) if isinstance(models, dict) else problems.source_text(path)
            problems.add_at_path(path, f"no model {written} in this file{suggest(model, config.models, 'models')}")


def check_store(config: Config, problems: Problems) -> None:
    """Refuse store settings that are invalid or contradict each other."""
    for name, server in (("store_password", "the store"), ("store_sentinel_password", "Sentinel")):
        if len(getattr(config, name)) > 1:
            problems.add_at_path(name, f"{server} accepts one password, not a list: remove the others")
    if config.store_deadline > MAX_STORE_DEADLINE_S:
        problems.add_at_path(
            "store_deadline", f"must be at most {MAX_STORE_DEADLINE_S}s: each call waits this long if the store hangs"
        )
    if config.store_sentinel_password and "+sentinel:" not in config.store:
        problems.add_at_path(
            "store_sentinel_password",
            "requires a Sentinel store: set store: redis+sentinel://HOST:26379,HOST:26379/NAME/0",
        )
    if config.calls.store == "redis" and config.store.startswith("memory:"):
        problems.add_at_path("calls.store", "requires a Redis store: set store: redis://HOST:6379/0, or remove this setting")
    if config.store.startswith("memory:"):
        for name in ("store_password", "store_ca"):
            if getattr(config, name):
                problems.add_at_path(name, "has no effect with memory://: set store to a Redis URL")
        return
    try:
        store_address(config)
    except (ValueError, OSError) as error:
        problems.add_at_path("store", str(error))


def check_limits(config: Config, problems: Problems) -> None:
    """Refuse budgets for targets without a price, settings of targets that no call can reach, and windows that occur twice."""
    tuned = [] if config.expose_targets else [each for each in config.providers.items() if each[1].models and each[1].discovery is None]
    known = {(ref.provider, ref.model) for ref in _targets(config, config.models)} if tuned else set()
    for name, provider in tuned:
        used = [model for other, model in known if other == name]
        for model in provider.models:
            if not any(_may_be(model, each) for each in used):
                path = join(join("providers", name) + ".models", model)
                problems.add_at_path(path, f"no model leads to {name}/{model}{suggest(model, used, 'targets')}")
    for path, limits, unpriced_targets in _limits(config):
        _check_windows(limits, path, problems)
        unpriced = unpriced_targets() if limits.spend else []
        if unpriced:
            have = "has no known price, so its cost" if len(unpriced) == 1 else "have no known prices, so their cost"
            where = ", ".join(dict.fromkeys(join(join("providers", ref.provider or ""), "prices") for ref in unpriced))
            named = ", ".join(str(ref) for ref in unpriced[:MAX_NAMED]) + (", ..." if len(unpriced) > MAX_NAMED else "")
            add = "the price" if len(unpriced) == 1 else "the prices"
            problems.add_at_path(f"{path}.spend", f"{named} {have} cannot be counted: add {add} under {where}")


def _may_be(model: str, target: str) -> bool:
    """Return whether a target, which may contain `*`, can stand for a model."""
    start, star, end = target.partition("*")
    return model == target or (bool(star) and model.startswith(start) and model[len(start) :].endswith(end))


class _Unpriced:
    """The targets without a known price, each once. The targets of keys are looked up once for all keys that allow the same models."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._by_names: dict[tuple[str, ...] | None, list[Ref]] = {}

    def allowed(self, models: Iterable[str] | None) -> list[Ref]:
        """Return those that calls can reach if a key allows these names and patterns of models, or all if `models` is None."""
        names = None if models is None else tuple(models)
        found = self._by_names.get(names)
        if found is None:
            reached = self._all() if names is None else [ref for name in names for ref in _may_reach(self._config, name)]
            found = self._by_names[names] = self.among(reached)
        return found

    def model(self, name: str) -> list[Ref]:
        """Return those of a model."""
        return self.among(_targets(self._config, [name]))

    def provider(self, name: str) -> list[Ref]:
        """Return those of a provider."""
        return [ref for ref in self.allowed(None) if ref.provider == name]

    def among(self, targets: Iterable[Ref]) -> list[Ref]:
        """Return those among these targets."""
        owners = ((ref, self._config.providers.get(ref.provider or "")) for ref in dict.fromkeys(targets))
        return [ref for ref, owner in owners if owner is not None and price_of(owner, ref.model) is None]

    def _all(self) -> list[Ref]:
        config = self._config
        unnamed = [Ref(name, "*") for name, one in config.providers.items() if config.expose_targets or one.discovery is not None]
        return _targets(config, config.models) + unnamed


def _check_windows(limits: LimitsConfig, path: str, problems: Problems) -> None:
    """Refuse two limits of one kind with the same window."""
    for kind in RATE_FIELDS:
        windows: set[str] = set()
        for index, rate in enumerate(getattr(limits, kind)):
            if rate.window in windows:
                problems.add_at_path(f"{path}.{kind}[{index}]", f"second limit for the window '{rate.window}': remove one of them")
            windows.add(rate.window)


def _limits(config: Config) -> Iterator[tuple[str, LimitsConfig, Callable[[], list[Ref]]]]:
    """Yield each block of limits that sets any: its path, the block, and how to find the targets without a price under a budget."""
    unpriced = _Unpriced(config)
    keys = [*((join("keys", name), key) for name, key in config.keys.items()), *policy_keys(config.issuers)]
    teams = [(join("teams", name), team) for name, team in config.teams.items()]
    entries: list[tuple[str, KeyConfig | TeamConfig]] = [*keys, *teams]
    for where, entry in entries:
        for model, block in model_limits(entry).items():
            yield f"{join(f'{where}.models', model)}.limits", block, partial(unpriced.allowed, (model,))
        if entry.limits != NO_LIMITS:
            yield f"{where}.limits", entry.limits, partial(unpriced.allowed, entry.models)
        if isinstance(entry, KeyConfig) and entry.limits_per_user != NO_LIMITS:
            yield f"{where}.limits_per_user", entry.limits_per_user, partial(unpriced.allowed, entry.models)
    for name, own in config.models.items():
        if own.limits != NO_LIMITS:
            yield f"{join('models', name)}.limits", own.limits, partial(unpriced.model, name)
    for name, provider in config.providers.items():
        where = join("providers", name)
        yield f"{where}.limits", provider.limits, partial(unpriced.provider, name)
        for model, target in provider.models.items():
            yield f"{join(f'{where}.models', model)}.limits", target.limits, partial(unpriced.among, [Ref(name, model)])


def _may_reach(config: Config, model: str) -> list[Ref]:
    """Return the targets that calls can reach if a key allows this model name or pattern."""
    named = [name for name in config.models if model.endswith("*") and name.startswith(model[:-1])]
    return _targets(config, [_pattern(config, model), *named]) + _unnamed_targets(config, model)


def _unnamed_targets(config: Config, model: str) -> list[Ref]:
    """Return the targets that a key may use without a model in this file, because it lists this name or pattern.

    These targets are PROVIDER/MODEL or PROVIDER/* with `expose_targets`, and models that a provider with `discover` may
    list.
    """
    provider, slash, name = model.partition("/")
    found = [Ref(provider, name)] if config.expose_targets and slash and name and provider in config.providers else []
    for owner, settings in config.providers.items():
        if settings.discovery is not None and (listed := settings.discovery.models_for(owner, model)) is not None:
            found.append(Ref(owner, listed))
    return found


def _pattern(config: Config, model: str) -> str:
    return model if model in config.models else matching_wildcard(model, config.models) or ""


def _targets(config: Config, models: Iterable[str]) -> list[Ref]:
    """Return the targets that calls for these models can reach, directly or through other models."""
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


def check_client_certificates(config: Config, problems: Problems) -> None:
    """Refuse client certificates and private keys that cannot be loaded or do not match."""
    import ssl

    for name, provider in config.providers.items():
        pair = provider.client_certificate
        if pair is None or None in (pair.cert, pair.key):
            continue
        path = join("providers", name) + ".client_certificate"
        try:
            check_permissions(Path(pair.key), problems.source_text(f"{path}.key"))
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pair.cert, pair.key, password=lambda: b"")
        except ssl.SSLError as error:
            problems.add_at_path(path, f"cert and key cannot be loaded: {error.reason or 'both must be PEM files'}")
        except (OSError, ValueError) as error:
            problems.add_at_path(f"{path}.key", str(error))


def check_tls(config: Config, problems: Problems, files: Files) -> None:
    """Refuse a certificate and private key that cannot be loaded or do not match."""
    if config.tls is None or None in (config.tls.cert, config.tls.key):
        return
    import ssl

    try:
        if not files.is_given(Path(config.tls.key)):
            check_permissions(Path(config.tls.key), problems.source_text("tls.key"))
        pem.load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem.read_certificate(config.tls, files))
    except UnicodeDecodeError:
        problems.add_at_path("tls", "cert and key cannot be loaded: both must be PEM files")
    except ssl.SSLError as error:
        problems.add_at_path("tls", f"cert and key cannot be loaded: {error.reason or 'both must be PEM files'}")
    except (OSError, ValueError) as error:
        problems.add_at_path("tls.key", str(error))

"""Differences between two configurations. A changed secret is reported without its value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import structs

from gateway.config.masked import MASK, fields_of, masked_value
from gateway.config.problem import join
from gateway.config.redis_address import RedisAddress, read_address
from gateway.config.secret import Secret
from gateway.config.types import Config

SECTIONS = {
    "providers": "provider", "models": "model", "passthrough": "path", "mcp": "MCP server", "teams": "team",
    "keys": "key", "issuers": "issuer",
}  # fmt: skip
"""Sections with named entries, and the word for one entry."""

RESTART_ONLY = (
    "listen", "admin.listen", "store", "store_password", "store_sentinel_password", "store_ca", "store_deadline", "journal",
    "metrics", "calls", "traces", "trusted_proxies",
)  # fmt: skip
"""Settings that need a restart; a reload keeps the old values. Turning `tls` on or off needs a restart as well."""


class Change(msgspec.Struct, frozen=True):
    """One difference: an entry of a section, or a setting at the top level (`section` is empty)."""

    what: Literal["added", "removed", "changed"]
    section: str
    name: str
    details: tuple[str, ...] = ()
    restart: bool = False

    def __str__(self) -> str:
        sign = {"added": "+", "removed": "-", "changed": "~"}[self.what]
        kind = f"{SECTIONS[self.section]} " if self.section else ""
        details = f": {'; '.join(self.details)}" if self.details else ""
        return f"{sign} {kind}{self.name}{details}{' (needs a restart)' if self.restart else ''}"


def compare(old: Config, new: Config) -> list[Change]:
    """Return every difference: top-level settings first, then the sections in the order of SECTIONS."""
    changes = _setting_changes(old, new)
    before, after = fields_of(old), fields_of(new)
    for section in SECTIONS:
        changes += _entries(section, before[section][0], after[section][0])
    return changes


def restart_changes(old: Config, new: Config) -> list[Change]:
    """Return the differences that need a restart, which are all at the top level."""
    return [change for change in _setting_changes(old, new) if change.restart]


def _setting_changes(old: Config, new: Config) -> list[Change]:
    """Return the differences outside of SECTIONS."""
    before, after = fields_of(old), fields_of(new)
    changes = []
    for name in after:
        if name in SECTIONS:
            continue
        for path, old_value, new_value, form in _leaves(name, before[name], after[name]):
            is_fixed = _is_restart_only(path) and not _is_reread_password(old_value, new_value)
            restart = is_fixed or _switches_tls(path, old_value, new_value)
            changes.append(Change("changed", "", path, (_change_text(old_value, new_value, form),), restart))
    return changes


def keep_restart_only(new: Config, running: Config) -> Config:
    """Return the new configuration with the restart-only settings of the running one."""
    for path in RESTART_ONLY:
        new = _put(new, path.split("."), running)
    return structs.replace(new, tls=running.tls) if (new.tls is None) != (running.tls is None) else new


def _put(struct: Any, path: list[str], source: Any) -> Any:
    field, *rest = path
    value = getattr(source, field)
    return structs.replace(struct, **{field: _put(getattr(struct, field), rest, value) if rest else value})


def _is_restart_only(path: str) -> bool:
    return any(path == setting or path.startswith(setting + ".") for setting in RESTART_ONLY)


def _is_reread_password(old: Any, new: Any) -> bool:
    """Return whether only a password from a file differs. Each new connection to the store reads that file again."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        old, new = (secrets[0] if len(secrets) == 1 else None for secrets in (old, new))
    path = getattr(old, "path", None)
    if path is None or path != getattr(new, "path", None):
        return False
    return isinstance(old, Secret) or _without_password(old) == _without_password(new)


def _without_password(url: str) -> RedisAddress | str:
    return url if url == "memory://" else structs.replace(read_address(url), password="")


def _switches_tls(path: str, old: Any, new: Any) -> bool:
    return path == "tls" and (old is None) != (new is None)


def summarize(changes: list[Change]) -> str:
    """Return all changes in one line, such as `models: 1 added, 2 changed; keys: 1 removed; max_body changed`."""
    counts: dict[str, dict[str, int]] = {}
    settings = [change.name for change in changes if not change.section]
    for change in changes:
        if change.section:
            by_kind = counts.setdefault(change.section, {})
            by_kind[change.what] = by_kind.get(change.what, 0) + 1
    parts = [
        f"{section}: {', '.join(f'{count} {kind}' for kind, count in sorted(by_kind.items()))}"
        for section, by_kind in counts.items()
    ]
    return "; ".join([*parts, *(f"{name} changed" for name in settings)]) or "only the formatting has changed"


def _entries(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in old:
        if name not in new:
            yield Change("removed", section, name)
    for name, entry in new.items():
        if name not in old:
            yield Change("added", section, name, _settings_text(entry))
        elif old[name] != entry:
            leaves = _leaves("", (old[name], None), (entry, None))
            details = tuple(f"{path} {_change_text(before, after, form)}" for path, before, after, form in leaves)
            yield Change("changed", section, name, details)


def _settings_text(entry: Any) -> tuple[str, ...]:
    """Return the settings of an entry that differ from the defaults, without secrets."""
    return tuple(f"{path} {_text(value, form)}" for path, _, value, form in _settings("", entry))


def _settings(path: str, entry: msgspec.Struct) -> list[tuple[str, Any, Any, str | None]]:
    """Return those settings of the entry at a path that differ from the defaults."""
    defaults = {field.encode_name: _default(field) for field in structs.fields(type(entry))}
    return [
        leaf
        for name, value in fields_of(entry).items()
        if name in defaults
        for leaf in _leaves(join(path, name), (defaults[name], value[1]), value)
    ]


def _default(field: structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


Value = tuple[Any, str | None]


def _leaves(path: str, old: Value, new: Value) -> Iterator[tuple[str, Any, Any, str | None]]:
    """Yield the differences between two values: path, old value, new value, format."""
    (old_value, _), (new_value, form) = old, new
    if old_value == new_value:
        return
    same_type = type(old_value) is type(new_value)
    if isinstance(old_value, msgspec.Struct) and same_type and not _is_single_value(old_value):
        before, after = fields_of(old_value), fields_of(new_value)
        for name in {**before, **after}:
            yield from _leaves(join(path, name), before.get(name, (None, None)), after.get(name, (None, None)))
    elif isinstance(old_value, dict) and isinstance(new_value, dict):
        for key in {**old_value, **new_value}:
            entry = new_value.get(key)
            if key not in old_value and isinstance(entry, msgspec.Struct) and not _is_single_value(entry):
                yield from _settings(join(path, key), entry) or [(join(path, key), None, {}, None)]
            else:
                yield from _leaves(join(path, key), (old_value.get(key), None), (entry, None))
    else:
        yield path, old_value, new_value, form


def _is_single_value(struct: msgspec.Struct) -> bool:
    """Return whether a struct is written as one value, such as an address, a rate or a route."""
    return not isinstance(masked_value(struct), dict) or bool(struct.__struct_config__.tag)


def _change_text(old: Any, new: Any, form: str | None) -> str:
    before, after = _text(old, form), _text(new, form)
    return f"{before} -> {after}" if before != after else f"{after} (different value)"


def _text(value: Any, form: str | None) -> str:
    """Return a value in one line."""
    plain = masked_value(value, form)
    if plain is None:
        return "none"
    if form == "route":
        return _route(plain)
    if isinstance(plain, str):
        return plain if plain == MASK or plain.isprintable() else ascii(plain)
    return msgspec.json.encode(plain).decode()


def _route(plain: Any) -> str:
    """Return a route in words: an order with `then`, a split with percentages."""
    if isinstance(plain, list):
        return ", then ".join(_route(step) for step in plain)
    if isinstance(plain, dict):
        total = sum(plain.values())
        return " or ".join(f"{name} ({weight / total:.0%})" for name, weight in plain.items())
    return str(plain)

"""What differs between two configurations, in an operator's words; a secret's change is told, its value never."""

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

SECTIONS = {"providers": "provider", "models": "model", "teams": "team", "keys": "key"}
"""Parts of the file whose entries come and go by name."""

RESTART_ONLY = (
    "listen", "admin.listen", "store", "store_password", "store_sentinel_password", "store_ca", "store_deadline", "journal",
    "metrics", "traces", "trusted_proxies",
)  # fmt: skip
"""What a process has for its whole life: a reload keeps it as it is, and says so. Turning `tls` on or off is such a change, too."""


class Change(msgspec.Struct, frozen=True):
    """One difference: an entry of a section that came, went or changed, or a setting (`section` is empty)."""

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
    """Every difference, settings first, then section by section in the order of the files."""
    before, after = fields_of(old), fields_of(new)
    found = []
    for name in after:
        if name in SECTIONS:
            continue
        for path, one, other, form in _leaves(name, before[name], after[name]):
            restart = (_is_fixed(path) and not _read_again(one, other)) or _switches_tls(path, one, other)
            found.append(Change("changed", "", path, (_step(one, other, form),), restart))
    for section in SECTIONS:
        found += _entries(section, before[section][0], after[section][0])
    return found


def restart_changes(old: Config, new: Config) -> list[Change]:
    """The differences that a running process cannot take up."""
    return [change for change in compare(old, new) if change.restart]


def keep_restart_only(new: Config, running: Config) -> Config:
    """The new configuration with the parts that the process cannot change as they are."""
    for path in RESTART_ONLY:
        new = _put(new, path.split("."), running)
    return structs.replace(new, tls=running.tls) if (new.tls is None) != (running.tls is None) else new


def _put(struct: Any, path: list[str], source: Any) -> Any:
    field, *rest = path
    value = getattr(source, field)
    return structs.replace(struct, **{field: _put(getattr(struct, field), rest, value) if rest else value})


def _is_fixed(path: str) -> bool:
    return any(path == fixed or path.startswith(fixed + ".") for fixed in RESTART_ONLY)


def _read_again(old: Any, new: Any) -> bool:
    """Whether only a password differs that is read from the same file at each connection to the store."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        old, new = (one[0] if len(one) == 1 else None for one in (old, new))
    path = getattr(old, "path", None)
    if path is None or path != getattr(new, "path", None):
        return False
    return isinstance(old, Secret) or _without_password(old) == _without_password(new)


def _without_password(url: str) -> RedisAddress | str:
    return url if url == "memory://" else structs.replace(read_address(url), password="")


def _switches_tls(path: str, old: Any, new: Any) -> bool:
    return path == "tls" and (old is None) != (new is None)


def summarize(changes: list[Change]) -> str:
    """All changes in one line: `models: 1 added, 2 changed; keys: 1 removed; max_body changed`."""
    counts: dict[str, dict[str, int]] = {}
    settings = [change.name for change in changes if not change.section]
    for change in changes:
        if change.section:
            of = counts.setdefault(change.section, {})
            of[change.what] = of.get(change.what, 0) + 1
    parts = [f"{section}: {', '.join(f'{count} {what}' for what, count in sorted(of.items()))}" for section, of in counts.items()]
    return "; ".join([*parts, *(f"{name} changed" for name in settings)]) or "nothing changed but how it is written"


def _entries(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in old:
        if name not in new:
            yield Change("removed", section, name)
    for name, one in new.items():
        if name not in old:
            yield Change("added", section, name, _said(one))
        elif old[name] != one:
            leaves = _leaves("", (old[name], None), (one, None))
            yield Change("changed", section, name, tuple(f"{path} {_step(a, b, form)}" for path, a, b, form in leaves))


def _said(entry: Any) -> tuple[str, ...]:
    """What an entry says beyond the defaults, without its secrets."""
    defaults = {field.encode_name: _default(field) for field in structs.fields(type(entry))}
    leaves = [
        leaf for name, value in fields_of(entry).items() if name in defaults for leaf in _leaves(name, (defaults[name], value[1]), value)
    ]
    return tuple(f"{path} {_text(value, form)}" for path, _, value, form in leaves)


def _default(field: structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


Value = tuple[Any, str | None]


def _leaves(path: str, old: Value, new: Value) -> Iterator[tuple[str, Any, Any, str | None]]:
    """The places inside two values where they differ: path, old, new, and how they are written."""
    (one, _), (other, form) = old, new
    if one == other:
        return
    if isinstance(one, msgspec.Struct) and type(one) is type(other) and not _is_value(one):
        before, after = fields_of(one), fields_of(other)
        for name in {**before, **after}:
            yield from _leaves(join(path, name), before.get(name, (None, None)), after.get(name, (None, None)))
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from _leaves(join(path, key), (one.get(key), None), (other.get(key), None))
    else:
        yield path, one, other, form


def _is_value(one: msgspec.Struct) -> bool:
    """Whether a struct is written as one value: an address, a rate, a route."""
    return not isinstance(masked_value(one), dict) or bool(one.__struct_config__.tag)


def _step(old: Any, new: Any, form: str | None) -> str:
    before, after = _text(old, form), _text(new, form)
    return f"{before} -> {after}" if before != after else f"{after} (another value)"


def _text(value: Any, form: str | None) -> str:
    """A value in one line."""
    plain = masked_value(value, form)
    if plain is None:
        return "none"
    if form == "route":
        return _route(plain)
    if isinstance(plain, str):
        return plain if plain == MASK or plain.isprintable() else ascii(plain)
    return msgspec.json.encode(plain).decode()


def _route(plain: Any) -> str:
    """A route: an order with `then`, a split with shares."""
    if isinstance(plain, list):
        return ", then ".join(_route(step) for step in plain)
    if isinstance(plain, dict):
        whole = sum(plain.values())
        return " or ".join(f"{name} ({weight / whole:.0%})" for name, weight in plain.items())
    return str(plain)

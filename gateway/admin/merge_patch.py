"""JSON Merge Patch (RFC 7396), and the comparison of the entry of a key or team before and after a change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.config.limit import RATE_FIELDS
from gateway.config.problem import join

Path = tuple[str, ...]
"""The names of a member and of the members that contain it, from the outside."""
MODELS = ("models",)


def merge(target: Any, patch: Any) -> Any:
    """Return the target with the patch applied. Objects are merged, null removes a member, and other values replace it."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def removed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what `after` no longer has of `before`, by path: settings, limits, restrictions, and the entries of restrictions.

    A restriction is a list, or the mapping `models`. A lifted restriction is listed as a whole. An entry that a restriction has lost is
    listed by path, such as `models.NAME`, for a list as well as for a mapping. Of limits with several windows, only the windows that
    are missing are listed.
    """
    old, new = _facts(before), _facts(after)
    gone: dict[str, Any] = {}
    for path, fact in old.items():
        if path not in new:
            if fact.entry_of is None or fact.entry_of in new:
                gone[_text(path)] = fact.value
        elif fact.windows and (missing := [rate for window, rate in fact.windows.items() if window not in new[path].windows]):
            gone[_text(path)] = missing if len(missing) > 1 else missing[0]
    return gone


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `before`, at any depth, that `after` replaces: by path, the old value as `from` and the new one as `to`."""
    old, new = _members(before), _members(after)
    return {
        _text(path): {"from": value, "to": new[path]}
        for path, value in old.items()
        if path in new and new[path] != value and not (value and isinstance(value, dict) and isinstance(new[path], dict))
    }


class _Fact(NamedTuple):
    """A value that a change can take away."""

    value: Any
    entry_of: Path | None = None
    """The path of the restriction that contains the value as an entry; None for other values."""
    windows: Mapping[str, str] = MappingProxyType({})
    """The limits of one kind by window or period."""


def _facts(document: dict[str, Any]) -> dict[Path, _Fact]:
    """Return all values that a change can take away, by path. A list and a mapping of models have the same entries."""
    facts: dict[Path, _Fact] = {}
    for path, value in _members(document).items():
        name, parent = path[-1], path[:-1]
        if name in RATE_FIELDS and parent and isinstance(value, str | list):
            rates = value if isinstance(value, list) else [value]
            facts[path] = _Fact(value, windows={rate.rpartition("/")[2]: rate for rate in rates})
        elif isinstance(value, list):
            facts[path] = _Fact(value)
            facts |= {(*path, str(entry)): _Fact(entry, path) for entry in value}
        elif not isinstance(value, dict) or path == MODELS:
            facts[path] = _Fact(value)
        elif parent == MODELS or not value:
            facts[path] = _Fact(value, parent if parent == MODELS else None)
    return facts


def _members(document: dict[str, Any], where: Path = ()) -> dict[Path, Any]:
    """Return all members by path, at every depth."""
    members: dict[Path, Any] = {}
    for name, value in document.items():
        path = (*where, name)
        members[path] = value
        if isinstance(value, dict):
            members |= _members(value, path)
    return members


def _text(path: Path) -> str:
    return reduce(join, path, "")

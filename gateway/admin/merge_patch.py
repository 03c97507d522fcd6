"""JSON Merge Patch (RFC 7396), and the comparison of a document before and after a change."""

from __future__ import annotations

from typing import Any

from gateway.config.problem import join


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
    """Return the values of `before`, at any depth, whose path `after` lacks. The keys are their paths."""
    now = _members(after)
    return {path: value for path, value in _leaves(before).items() if path not in now}


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `before`, at any depth, that `after` replaces: by path, the old value as `from` and the new one as `to`."""
    now = _members(after)
    both = {path: value for path, value in _leaves(before).items() if path in now and now[path] != value}
    return {path: {"from": value, "to": now[path]} for path, value in both.items()}


def _members(document: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return all members by path, at every depth."""
    members: dict[str, Any] = {}
    for name, value in document.items():
        path = join(where, name) if where else name
        members[path] = value
        if isinstance(value, dict):
            members |= _members(value, path)
    return members


def _leaves(document: dict[str, Any]) -> dict[str, Any]:
    """Return the members that have no members of their own, by path."""
    return {path: value for path, value in _members(document).items() if not isinstance(value, dict) or not value}

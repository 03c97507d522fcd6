"""JSON Merge Patch (RFC 7396), and the comparison of a document before and after a change."""

from __future__ import annotations

from typing import Any

from gateway.config.problem import join


def merge(target: Any, patch: Any) -> Any:
    """Return the target with the members of the patch. Objects are merged, null removes a member, and other values replace it."""
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
    """Return the members that are no longer there, by path, with the values that they had."""
    return {path: value for path, value in _leaves(before).items() if not _has(after, path)}


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the members that have another value, by path, with the value before and after as `from` and `to`."""
    now = _leaves(after)
    both = {path: value for path, value in _leaves(before).items() if path in now and now[path] != value}
    return {path: {"from": value, "to": now[path]} for path, value in both.items()}


def _has(document: dict[str, Any], path: str) -> bool:
    """Return whether the document has the member, possibly as an object with members."""
    return any(leaf == path or leaf.startswith((f"{path}.", f"{path}[")) for leaf in _leaves(document))


def _leaves(document: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return the members that are not objects with members, by path."""
    leaves: dict[str, Any] = {}
    for name, value in document.items():
        path = join(where, name) if where else name
        if isinstance(value, dict) and value:
            leaves |= _leaves(value, path)
        else:
            leaves[path] = value
    return leaves

"""The changes in a rejected file: the paths that it adds, removes and changes, without their values.

The file has mistakes, so a value in it may be a secret that is not recognized as one.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.problem import join
from gateway.config.yamlfile import Mapping, Node, Scalar, YamlError, parse

MAX_PATHS = 200


def changed_paths(serving: bytes, rejected: bytes) -> list[str]:
    """Return lines such as `+ models.fast (line 9)`, `- keys.app` and `~ models.smart.targets (line 7)`, at most MAX_PATHS.

    Return no lines if one of the texts is not valid YAML.
    """
    try:
        before, after = parse(serving), parse(rejected)
    except YamlError:
        return []
    return [line for line, _ in zip(_differences("", before, after), range(MAX_PATHS), strict=False)]


def _differences(path: str, before: Node, after: Node) -> Iterator[str]:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if not _are_equal(before, after):
            yield f"~ {path or 'the whole file'} (line {after.place.line})"
        return
    for name in before.entries:
        if name not in after.entries:
            yield f"- {join(path, name)}"
    for name, entry in after.entries.items():
        if name not in before.entries:
            yield f"+ {join(path, name)} (line {entry.place.line})"
        else:
            yield from _differences(join(path, name), before.entries[name].value, entry.value)


def _are_equal(one: Node, other: Node) -> bool:
    """Return whether two nodes have the same values, wherever they are."""
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return (one.text, one.null) == (other.text, other.null)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.entries.keys() == other.entries.keys() and all(
            _are_equal(entry.value, other.entries[name].value) for name, entry in one.entries.items()
        )
    if isinstance(one, Scalar | Mapping) or isinstance(other, Scalar | Mapping):
        return False
    return len(one.items) == len(other.items) and all(map(_are_equal, one.items, other.items))

"""The shape of a YAML node, by which the type of an entry is chosen."""

from __future__ import annotations

from msgspec import inspect as mi

from gateway.config.yamlfile import Mapping, Node, Sequence


def has_shape(node: Node, kind: mi.Type) -> bool:
    """Return whether a node and a type are both mappings or both lists."""
    while isinstance(kind, mi.Metadata):
        kind = kind.type
    if isinstance(node, Mapping):
        return isinstance(kind, mi.DictType | mi.StructType)
    return isinstance(node, Sequence) and isinstance(kind, mi.VarTupleType | mi.ListType)

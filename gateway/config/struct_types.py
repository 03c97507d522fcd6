"""The structs of the configuration, as the reader, the schema and the reference use them."""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec import inspect as mi


@cache
def struct_type(struct: type[msgspec.Struct]) -> mi.StructType:
    """Return the description of a struct. The description is cached, because making it takes many milliseconds."""
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    return info


_keys: dict[tuple[type, int], dict[str, mi.Field]] = {}


def keys_of(kind: mi.StructType) -> dict[str, mi.Field]:
    """Return the fields that are keys in the YAML, by key.

    Names of entries and `options` are not included. The result is cached, because a file may have many entries of one kind.
    """
    names = (kind.cls, len(kind.fields))  # the reader of models also uses a struct without `targets`
    known = _keys.get(names)
    if known is not None:
        return known
    keys = _keys[names] = {}
    for field in kind.fields:
        extra = field.type.extra if isinstance(field.type, mi.Metadata) else None
        if not (extra and extra.get("form") == "outside"):
            keys[field.encode_name] = field
    return keys

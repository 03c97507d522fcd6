"""The structs of the configuration, as the reader, the schema and the reference use them."""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec import inspect as mi


@cache
def struct_type(struct: type[msgspec.Struct]) -> mi.StructType:
    """Return the description of a struct. It is cached, because making it takes many milliseconds."""
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    return info


def keys_of(kind: mi.StructType) -> dict[str, mi.Field]:
    """Return the fields that are keys in the YAML, by key.

    Names of entries and `options` are not included.
    """
    keys = {}
    for field in kind.fields:
        extra = field.type.extra if isinstance(field.type, mi.Metadata) else None
        if not (extra and extra.get("form") == "outside"):
            keys[field.encode_name] = field
    return keys

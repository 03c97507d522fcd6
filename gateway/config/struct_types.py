"""The structs of the configuration, as the reader, the schema and the reference use them."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import inspect as mi


@cache
def struct_type(struct: type[msgspec.Struct]) -> mi.StructType:
    """Return the description of a struct. The description is cached, because making it takes many milliseconds."""
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    return info


class Layout(msgspec.Struct, frozen=True):
    """How a struct is written in the YAML."""

    keys: dict[str, mi.Field]
    """The fields that are keys in the YAML, by key."""
    required: tuple[tuple[str, mi.Field], ...]
    """The keys that an entry must have."""
    has_name: bool
    """Whether the field `name` is the name of the entry and not a key."""


_layouts: dict[tuple[type, int], Layout] = {}
_unwrapped: dict[int, tuple[mi.Type, dict[str, Any], mi.Type]] = {}
_members: dict[int, tuple[mi.UnionType, tuple[mi.Type, ...]]] = {}


def layout_of(kind: mi.StructType) -> Layout:
    """Return how a struct is written. The result is cached, because a file may have many entries of one kind."""
    names = (kind.cls, len(kind.fields))  # the reader of models also uses a struct without `targets`
    layout = _layouts.get(names)
    if layout is None:
        keys = {field.encode_name: field for field in kind.fields if not _is_outside(field)}
        required = tuple((key, field) for key, field in keys.items() if field.required)
        has_name = "name" not in keys and any(field.name == "name" for field in kind.fields)
        layout = _layouts[names] = Layout(keys, required, has_name)
    return layout


def _is_outside(field: mi.Field) -> bool:
    extra = field.type.extra if isinstance(field.type, mi.Metadata) else None
    return bool(extra and extra.get("form") == "outside")


def keys_of(kind: mi.StructType) -> dict[str, mi.Field]:
    """Return the fields that are keys in the YAML, by key. Names of entries and `options` are not included."""
    return layout_of(kind).keys


def unwrap(kind: mi.Type) -> tuple[dict[str, Any], mi.Type]:
    """Return the `extra` of all metadata of a type, and the type itself.

    The result is cached, so the type should be a part of a struct and not be made for this call.
    """
    known = _unwrapped.get(id(kind))
    if known is None:
        extra: dict[str, Any] = {}
        inner = kind
        while isinstance(inner, mi.Metadata):
            extra, inner = {**(inner.extra or {}), **extra}, inner.type
        known = _unwrapped[id(kind)] = kind, extra, inner  # with the type itself, so that no other type gets its id
    return known[1], known[2]


def members(kind: mi.UnionType) -> tuple[mi.Type, ...]:
    """Return the types of a union without None. Text comes last, because it accepts every value. The result is cached as by `unwrap`."""
    known = _members.get(id(kind))
    if known is None:
        types = [each for each in kind.types if not isinstance(each, mi.NoneType)]
        types.sort(key=lambda each: isinstance(each, mi.StrType))
        known = _members[id(kind)] = kind, tuple(types)
    return known[1]

"""The JSON Schema of the YAML, for completion in editors. It is generated from the types and formats of the reader."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect as mi

import providers
from gateway.config.entry import options_type
from gateway.config.formats import FORMATS, HEADER_SCHEMA, PATH_SCHEMA, SECRET_SCHEMA, VARIABLE, Schema
from gateway.config.model import ModelConfig
from gateway.config.passthrough import PassthroughConfig
from gateway.config.provider import ProviderConfig
from gateway.config.struct_types import keys_of, struct_type
from gateway.config.types import Config

_VARIABLE: Schema = {"type": "string", "pattern": VARIABLE}
_REF: Schema = {"type": "string", "minLength": 1, "examples": ["openai/gpt-4o", "another-model"]}
_WEIGHT: Schema = {"anyOf": [{"type": "number", "minimum": 0}, _VARIABLE]}
_SPLIT: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": _WEIGHT,
    "description": "A split: a mapping of targets to weights.",
}
_ORDER: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [_REF, {"$ref": "#/$defs/split"}]},
    "description": "An order: the next target is tried if one fails.",
}
_SPECIAL: dict[str, Schema] = {
    "secrets": SECRET_SCHEMA,
    "header": HEADER_SCHEMA,
    "path": PATH_SCHEMA,
    "ref": _REF,
    "route": {"$ref": "#/$defs/route"},
}
_MODEL_NAME: Schema = {"pattern": r"^[^*]*\*?$", "minLength": 1}
_PROVIDER_NAME: Schema = {"pattern": r"^[^/]+$"}
_PATTERN: Schema = {"pattern": r"^/[^*%?#]+(/\*)?$"}


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of the configurations that this version accepts."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lockgate configuration",
        **schema_of_struct(struct_type(Config)),
        "$defs": {
            "split": _SPLIT,
            "order": _ORDER,
            "route": {"anyOf": [_REF, {"$ref": "#/$defs/order"}, {"$ref": "#/$defs/split"}]},
        },
    }


def _type(kind: mi.Type) -> Schema:
    """Return the schema of one type."""
    extra: dict[str, Any] = {}
    words: dict[str, Any] = {}
    while isinstance(kind, mi.Metadata):
        extra, words, kind = {**(kind.extra or {}), **extra}, {**(kind.extra_json_schema or {}), **words}, kind.type
    if "form" in extra:
        form = extra["form"]
        found = _SPECIAL[form] if form in _SPECIAL else FORMATS[form].schema
        if isinstance(kind, mi.VarTupleType) and form not in _SPECIAL:
            found = {"anyOf": [found, {"type": "array", "items": found, "minItems": 1}]}
        return {**found, **words}
    if isinstance(kind, mi.StructType):
        found = _mapping(kind)
        if "short" in extra:
            field = next(each for each in kind.fields if each.name == extra["short"])
            found = {"anyOf": [_type(field.type), found]}
        return {**found, **words}
    if isinstance(kind, mi.UnionType):
        return {**_union(kind), **words}
    if isinstance(kind, mi.DictType):
        return {**_dict(kind), **words}
    if isinstance(kind, mi.VarTupleType | mi.ListType):
        return {"type": "array", "items": _type(kind.item_type), **words}
    return {**_leaf(kind), **words}


def _union(kind: mi.UnionType) -> Schema:
    schemas: list[Schema] = []
    for each in kind.types:
        if not isinstance(each, mi.NoneType):
            schema = _type(each)
            if schema.get("type") == ["object", "null"]:
                schema["type"] = "object"  # only a key whose single type is a mapping may be empty
            schemas += schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _dict(kind: mi.DictType) -> Schema:
    item = kind.value_type
    while isinstance(item, mi.Metadata):
        item = item.type
    found: Schema = {"type": ["object", "null"], "additionalProperties": _type(kind.value_type)}
    cls = item.cls if isinstance(item, mi.StructType) else None
    if cls is ModelConfig:
        found["propertyNames"] = _MODEL_NAME
    elif cls is ProviderConfig:
        found["propertyNames"] = _PROVIDER_NAME
    elif cls is PassthroughConfig:
        found["propertyNames"] = _PATTERN
    return found


def _leaf(kind: mi.Type) -> Schema:
    """Return the schema of a scalar. Numbers and booleans may also be variables."""
    if isinstance(kind, mi.StrType):
        return {"type": "string", **({"minLength": kind.min_length} if kind.min_length else {})}
    if isinstance(kind, mi.LiteralType):
        return {"enum": list(kind.values)}
    if isinstance(kind, mi.BoolType):
        return {"anyOf": [{"type": "boolean"}, _VARIABLE]}
    if isinstance(kind, mi.IntType | mi.FloatType):
        number: Schema = {"type": "integer" if isinstance(kind, mi.IntType) else "number"}
        for name, word in (
            ("ge", "minimum"),
            ("le", "maximum"),
            ("gt", "exclusiveMinimum"),
            ("lt", "exclusiveMaximum"),
        ):
            if getattr(kind, name) is not None:
                number[word] = getattr(kind, name)
        return {"anyOf": [number, _VARIABLE]}
    return {}


def _mapping(kind: mi.StructType) -> Schema:
    if kind.cls is ProviderConfig:
        return _provider(kind)
    if kind.cls is ModelConfig:
        return {"anyOf": [{"$ref": "#/$defs/route"}, schema_of_struct(kind)]}
    return schema_of_struct(kind)


def schema_of_struct(kind: mi.StructType) -> Schema:
    """Return the schema of a mapping that is read into a struct."""
    fields = keys_of(kind)
    found: Schema = {
        "type": "object",
        "description": (kind.cls.__doc__ or "").partition("\n")[0],
        "properties": {name: _with_default(_type(field.type), field) for name, field in fields.items()},
        "additionalProperties": False,
    }
    required = [name for name, field in fields.items() if field.required]
    return {**found, "required": required} if required else found


def _with_default(found: Schema, field: mi.Field) -> Schema:
    """Return the schema with the default, which editors show, if the default is written the same in YAML and in Python."""
    plain = (
        isinstance(field.default, str | bool | int | float) and field.default != "" and "form" not in _extra(field.type)
    )
    return {**found, "default": field.default} if plain and type(field.default) in (str, bool, int, float) else found


def _extra(kind: mi.Type) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    while isinstance(kind, mi.Metadata):
        extra, kind = {**(kind.extra or {}), **extra}, kind.type
    return extra


def _provider(kind: mi.StructType) -> Schema:
    """Return the schema of a provider: the common keys and those of all types.

    The reader checks which keys a type has.
    """
    found = schema_of_struct(kind)
    properties = found["properties"]
    types = list(providers.types())
    properties["type"] = {
        "anyOf": [{"enum": types}, {"type": "string", "minLength": 1}],
        "description": properties["type"]["description"],
    }
    for key, takers in _own_keys(types).items():
        some = [schema for index, schema in enumerate(takers.values()) if schema not in list(takers.values())[:index]]
        own = some[0] if len(some) == 1 else {"anyOf": some}
        only = "" if len(takers) == len(types) else f"({', '.join(takers)}) "
        described = {**own, "description": f"{only}{own.get('description', '')}".strip()}
        properties[key] = {"anyOf": [properties[key], described]} if key in properties else described
    return {**found, "type": ["object", "null"]}


def _own_keys(types: list[str]) -> dict[str, dict[str, Schema]]:
    """Return the keys that types add to the common ones: the schema by key and type."""
    found: dict[str, dict[str, Schema]] = {}
    for name in types:
        options = options_type(name)
        for key, field in (keys_of(options) if options else {}).items():
            found.setdefault(key, {})[name] = _with_default(_type(field.type), field)
    return found


def schema_text() -> str:
    """Return the JSON Schema as the content of a file."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"

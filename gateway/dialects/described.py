"""JSON Schemas of checks: the schema that describes a parameter in the OpenAPI document is next to its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Check = Callable[[str, Any], None]
Schema = dict[str, Any]

_SCHEMAS: dict[Check, Schema] = {}


def described(schema: Schema) -> Callable[[Check], Check]:
    """Return a decorator that gives a check its schema."""

    def keep(check: Check) -> Check:
        _SCHEMAS[check] = schema
        return check

    return keep


def schema_of(check: Check) -> Schema:
    """Return the schema of the values that a check accepts."""
    return _SCHEMAS[check]


def nullable(schema: Schema) -> Schema:
    """Return a schema that also accepts null, which means the same as an absent parameter."""
    kind = schema.get("type")
    if kind is None or "enum" in schema:
        return {"anyOf": [*(schema["anyOf"] if set(schema) == {"anyOf"} else [schema]), {"type": "null"}]}
    kinds = [kind] if type(kind) is str else list(kind)
    return {**schema, "type": kinds if "null" in kinds else [*kinds, "null"]}

"""Merges the unions at the top of a schema into one object, for vendors that accept only objects there."""

from __future__ import annotations

from typing import Any

from providers.rules.schema_dialect import resolved

UNIONS = ("anyOf", "oneOf", "allOf")
NOT_AT_THE_TOP = (*UNIONS, "enum", "not", "const")


def merged_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return a schema with the branches of anyOf, oneOf and allOf at its top level merged into one object.

    Return None if the schema has `enum` or `const`, or if the schema or one of the branches does not describe an object.
    A property is required if the schema itself, every branch of an anyOf or oneOf, or any branch of an allOf requires it.
    Properties that differ between branches become an `anyOf`.
    """
    if not _is_object(schema) or any(name in schema for name in ("enum", "const")):
        return None
    properties: dict[str, list[Any]] = {name: [value] for name, value in (schema.get("properties") or {}).items()}
    required = list(schema.get("required") or ())
    for union in UNIONS:
        listed = schema.get(union)
        branches = [resolved(branch, schema) for branch in (listed if type(listed) is list else ())]
        demanded: list[set[str]] = []
        for branch in branches:
            flat = merged_schema(branch) if type(branch) is dict and any(name in branch for name in UNIONS) else branch
            if flat is None or not _is_object(flat) or "$ref" in flat:
                return None
            demanded.append(set(flat.get("required") or ()))
            for name, value in (flat.get("properties") or {}).items():
                known = properties.setdefault(name, [])
                if value not in known:
                    known.append(value)
        common = set.union(*demanded) if union == "allOf" and demanded else set.intersection(*demanded) if demanded else set()
        required += sorted(common.difference(required))
    rest = {name: value for name, value in schema.items() if name not in (*NOT_AT_THE_TOP, "type", "properties", "required")}
    merged = {name: values[0] if len(values) == 1 else {"anyOf": values} for name, values in properties.items()}
    needed = [name for name in required if name in merged]
    return {"type": "object", "properties": merged, **({"required": needed} if needed else {}), **rest}


def _is_object(schema: Any) -> bool:
    """Return whether a schema describes an object, with properties and required names of the right types."""
    if type(schema) is not dict or schema.get("type", "object") != "object":
        return False
    required = schema.get("required") or []
    names = type(required) is list and all(type(name) is str for name in required)
    return names and type(schema.get("properties") or {}) is dict

"""The description of a structured output, at providers whose format has only a schema."""

from __future__ import annotations

from typing import Any


def described_schema(wrapped: dict[str, Any]) -> Any:
    """Return the schema of a `json_schema`, with the description beside it added, because that states the purpose of the output.

    A missing schema counts as an empty object. The schema `true` has no place for a description.
    """
    schema, said = wrapped.get("schema") or {}, wrapped.get("description")
    if type(schema) is not dict or type(said) is not str or not said:
        return schema
    own = schema.get("description")
    return {**schema, "description": f"{said}\n\n{own}" if type(own) is str and own else said}

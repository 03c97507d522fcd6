"""JSON Schemas of nested parameters that gateway.dialects.parameters checks: tools, tool choices, response formats."""

from __future__ import annotations

from gateway.dialects.described import Schema


def _if_type(kind: str, then: Schema) -> Schema:
    """Return the schema that applies `then` to objects whose `type` is `kind`."""
    return {"if": {"properties": {"type": {"const": kind}}, "required": ["type"]}, "then": then}


def _named(field: str, value: Schema) -> Schema:
    return {"properties": {field: value}, "required": [field]}


FUNCTION: Schema = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "parameters": {"type": ["object", "null"]}},
    "required": ["name"],
}
_UNTYPED: Schema = {"properties": {"type": {"type": "null"}}}
_ONLY_CUSTOM: Schema = {"required": ["custom"], "not": {"required": ["function"]}}
TOOL: Schema = {
    "type": "object",
    "properties": {"type": {"type": ["string", "null"]}},
    "allOf": [
        _if_type("function", _named("function", FUNCTION)),
        _if_type("custom", _named("custom", FUNCTION)),
        {
            "if": _UNTYPED,
            "then": {"if": _ONLY_CUSTOM, "then": _named("custom", FUNCTION), "else": _named("function", FUNCTION)},
        },
    ],
}
"""Without a type, a tool with `custom` and no `function` is custom; any other is a function. Further types pass."""

_NAME: Schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_ALLOWED: Schema = {"properties": {"tools": {"type": ["array", "null"], "items": {"type": "object"}}}}
TOOL_CHOICE: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            **_named("type", {"type": "string"}),
            "allOf": [
                *(_if_type(kind, _named(kind, _NAME)) for kind in ("function", "custom")),
                _if_type("allowed_tools", {"properties": {"allowed_tools": _ALLOWED}}),
            ],
        },
    ]
}

_FORM: Schema = {"type": "object", "properties": {"schema": {"anyOf": [{"type": ["object", "null"]}, {"const": True}]}}}
RESPONSE_FORMAT: Schema = {
    "type": "object",
    **_named("type", {"type": "string"}),
    "allOf": [_if_type("json_schema", _named("json_schema", _FORM))],
}

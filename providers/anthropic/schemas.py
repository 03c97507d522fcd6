"""Anthropic's dialect of JSON Schema for structured output.

As of 2026-11, from platform.claude.com on structured outputs and anthropic 2.11.0 (transform_schema): no bounds on numbers,
texts and lists, every object closed, no recursion. The gateway checks answers for the keywords that are removed here.
"""

from __future__ import annotations

import re
from typing import Any

from providers.rules.rule import Rule, Work

_KEPT = frozenset(("type", "enum", "const", "default", "title", "description", "required", "$ref"))
_BY_NAME = frozenset(("properties", "$defs", "definitions"))
_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"))
_UNSUPPORTED_PATTERN = re.compile(r"\(\?|\\[1-9bB]")
"""Lookaround, backreferences and word boundaries."""


class NotExpressibleError(Exception):
    """A schema that the dialect cannot express. The message gives the reason."""


class Simplifier:
    """Rewrites one schema and records the removed keywords."""

    def __init__(self) -> None:
        self.removed: set[str] = set()
        self.closed = False

    def simplify(self, schema: Any) -> Any:
        """Return the schema in the dialect. Raises NotExpressibleError."""
        if _is_recursive(schema):
            raise NotExpressibleError("it refers to itself")
        return self._node(schema)

    def _node(self, node: Any) -> Any:
        if type(node) is not dict:
            return node
        result: dict[str, Any] = {}
        for key, value in node.items():
            self._keyword(result, key, value)
        types = node.get("type")
        if types == "object" or (type(types) is list and "object" in types) or "properties" in node:
            self._close(result, node)
        return result

    def _keyword(self, result: dict[str, Any], key: str, value: Any) -> None:
        if key in _BY_NAME and type(value) is dict:
            result[key] = {name: self._node(child) for name, child in value.items()}
        elif key in ("anyOf", "allOf") and type(value) is list:
            result[key] = [self._node(child) for child in value]
        elif key == "oneOf" and type(value) is list and "anyOf" not in result:
            result["anyOf"] = [self._node(child) for child in value]
            self.removed.add(key)
        elif key == "items" and type(value) is dict:
            result[key] = self._node(value)
        elif key == "$ref" and not str(value).startswith("#"):
            raise NotExpressibleError("it refers to another document")
        elif key in _KEPT or _is_supported(key, value):
            result[key] = value
        elif key != "additionalProperties":
            self.removed.add(key)

    def _close(self, result: dict[str, Any], node: dict[str, Any]) -> None:
        extra = node.get("additionalProperties")
        if (type(extra) is dict or node.get("patternProperties")) and not node.get("properties"):
            raise NotExpressibleError("it has an object with any names")
        self.closed = self.closed or extra is not False
        result["additionalProperties"] = False


def _is_supported(key: str, value: Any) -> bool:
    """Return whether the dialect supports a keyword with this value."""
    if key == "pattern":
        return type(value) is str and not _UNSUPPORTED_PATTERN.search(value)
    return (key == "format" and value in _FORMATS) or (key == "minItems" and type(value) is int and value in (0, 1))


def _references(node: Any) -> set[str]:
    if type(node) is list:
        return {reference for child in node for reference in _references(child)}
    if type(node) is not dict:
        return set()
    own = {node["$ref"]} if type(node.get("$ref")) is str else set()
    return own.union(*(_references(value) for value in node.values()))


def _is_recursive(schema: Any) -> bool:
    if type(schema) is not dict:
        return False
    edges = {
        f"#/{group}/{name}": _references(child)
        for group in ("$defs", "definitions")
        for name, child in (schema.get(group) or {}).items()
        if type(schema.get(group)) is dict
    }
    if "#" in _references(schema):
        return True
    while edges:
        leaves = [name for name, references in edges.items() if not references & edges.keys()]
        if not leaves:
            return True
        for name in leaves:
            del edges[name]
    return False


class FormatAsOutputConfig(Rule, frozen=True):
    """Converts json_schema to output_config.format. Anthropic has no JSON mode without a schema."""

    def apply(self, work: Work) -> None:
        """Convert a schema to the dialect. Drop other formats, and a schema that the dialect cannot express."""
        value = work.body.get(self.param) or {}
        if value.get("type") != "json_schema":
            work.drop(self.param, "there is no JSON mode without a schema")
            return
        simplifier = Simplifier()
        try:
            schema = simplifier.simplify(value["json_schema"].get("schema") or {})
        except NotExpressibleError as error:
            work.drop(self.param, f"the upstream cannot enforce this schema: {error}")
            return
        work.body.pop(self.param)
        output_format = {"type": "json_schema", "schema": schema}
        work.body.set("output_config", {**(work.body.get("output_config") or {}), "format": output_format})
        why = "every object is closed: additionalProperties is false" if simplifier.closed else ""
        work.report(self.param, "reshape", to="output_config.format", why=why)
        if simplifier.removed:
            names = ", ".join(sorted(simplifier.removed))
            why = f"the upstream does not know {names}; the gateway checks the answer against the whole schema"
            work.report(self.param, "enforce_locally", why=why)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "to": "output_config.format", "values": ["text", "json_schema"]}}

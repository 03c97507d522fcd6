"""Rules for schemas of structured output and of strict tools, in the dialect of JSON Schema that a vendor enforces.

A schema is rewritten if the dialect can express it except for some keywords. For structured output, the gateway then checks the
answer against the caller's own schema. The dialects are in `providers.schema_dialects`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from providers.rules.rule import Rule, Work

_NAMED = frozenset(("properties", "$defs", "definitions", "patternProperties", "dependentSchemas"))
"""Keywords whose value is a mapping of names to schemas."""
_LISTS = frozenset(("anyOf", "allOf", "oneOf", "prefixItems"))
"""Keywords whose value is a list of schemas."""
_SINGLE = frozenset(("items", "not", "if", "then", "else", "contains", "propertyNames", "additionalProperties"))
"""Keywords whose value is a schema."""
_DEFINITIONS = "#/definitions/"


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON Schema that a vendor enforces."""

    source: str
    keeps: frozenset[str] | None = None
    """The supported keywords. None: all except `removes`."""
    removes: frozenset[str] = frozenset()
    supports: Callable[[str, Any], bool] = lambda key, value: True
    """Whether a keyword of `keeps` is supported with this value."""
    rewrites_one_of: bool = False
    """`oneOf` becomes `anyOf`."""
    moves_definitions: bool = False
    """`definitions` becomes `$defs`."""
    all_required: bool = False
    """Every property must be required."""
    recursive: bool = True

    def keeps_keyword(self, key: str, value: Any) -> bool:
        """Return whether the dialect has a keyword with this value."""
        known = key not in self.removes if self.keeps is None else key in self.keeps
        return known and self.supports(key, value)


class NotExpressibleError(Exception):
    """A schema that the dialect cannot express. The message gives the reason."""


class Simplifier:
    """Rewrites one schema in a dialect and records the changes. Every object gets `additionalProperties: false`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.removed: set[str] = set()
        """Keywords that were removed, so that the upstream does not enforce them."""
        self.closed = False
        self.moved = False

    def simplify(self, schema: Any) -> Any:
        """Return the schema in the dialect. Raises NotExpressibleError if that is impossible."""
        if not self._dialect.recursive and _is_recursive(schema):
            raise NotExpressibleError("it refers to itself")
        return self._node(schema)

    def reason(self) -> str:
        """Describe the changes that lose nothing."""
        closed = "every object is closed: additionalProperties is false" if self.closed else ""
        moved = "definitions are $defs" if self.moved else ""
        return "; ".join(part for part in (closed, moved) if part)

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
        dialect = self._dialect
        if key == "additionalProperties":
            return
        if key == "$ref":
            result[key] = self._reference(value)
        elif key == "oneOf" and dialect.rewrites_one_of and type(value) is list and "anyOf" not in result:
            result["anyOf"] = [self._node(child) for child in value]
            self.removed.add(key)
        elif not dialect.keeps_keyword(key, value):
            self.removed.add(key)
        elif key in _NAMED and type(value) is dict:
            children = {name: self._node(child) for name, child in value.items()}
            if key == "definitions" and dialect.moves_definitions:
                self.moved = True
                result["$defs"] = {**result.get("$defs", {}), **children}
            elif key == "$defs":
                result[key] = {**result.get(key, {}), **children}
            else:
                result[key] = children
        elif key in _LISTS and type(value) is list:
            result[key] = [self._node(child) for child in value]
        else:
            result[key] = self._node(value) if key in _SINGLE else value

    def _reference(self, value: Any) -> Any:
        if not str(value).startswith("#"):
            raise NotExpressibleError("it refers to another document")
        if self._dialect.moves_definitions and str(value).startswith(_DEFINITIONS):
            return "#/$defs/" + str(value).removeprefix(_DEFINITIONS)
        return value

    def _close(self, result: dict[str, Any], node: dict[str, Any]) -> None:
        extra = node.get("additionalProperties")
        if (type(extra) is dict or node.get("patternProperties")) and not node.get("properties"):
            raise NotExpressibleError("it has an object with arbitrary property names")
        required = node.get("required")
        if self._dialect.all_required and set(node.get("properties") or ()) - set(required if type(required) is list else ()):
            raise NotExpressibleError("it has an optional property")
        self.closed = self.closed or extra is not False
        result["additionalProperties"] = False


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


class StrictFormat(Rule, frozen=True):
    """A `json_schema` with `strict: true`, which the upstream rejects if the schema is not in its dialect."""

    param: str = "response_format"
    dialect: Dialect = Dialect(source="")

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Rewrite the schema. If the dialect cannot express it, send it without `strict`; the gateway checks the answer."""
        value = work.body.get(self.param)
        wrapped = value.get("json_schema") if type(value) is dict else None
        if type(wrapped) is not dict or wrapped.get("strict") is not True or type(wrapped.get("schema")) is not dict:
            return
        simplifier = Simplifier(self.dialect)
        try:
            schema = simplifier.simplify(wrapped["schema"])
        except NotExpressibleError as error:
            work.body.set(self.param, {**value, "json_schema": {**wrapped, "strict": False}})
            why = f"sent with strict: false, because the upstream cannot enforce this schema: {error}; the gateway checks the answer"
            work.report(self.param, "enforce_locally", why=why)
            return
        if schema == wrapped["schema"]:
            return
        work.body.set(self.param, {**value, "json_schema": {**wrapped, "schema": schema}})
        if simplifier.closed or simplifier.moved:
            work.report(self.param, "reshape", why=simplifier.reason())
        report_removed(work, self.param, simplifier)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "advice": "strict schemas are rewritten in the upstream's dialect"}}


class StrictTools(Rule, frozen=True):
    """Tools with `strict: true`, which the upstream rejects if their schema is not in its dialect."""

    param: str = "tools"
    dialect: Dialect = Dialect(source="")

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Rewrite the schemas. Removing a keyword or `strict` is lossy, because the gateway does not check arguments."""
        tools = work.body.get(self.param)
        if not tools or b'"strict"' not in (work.body.raw(self.param) or b""):
            return
        changed = [self._rewrite(work, index, tool) for index, tool in enumerate(tools)]
        if changed != tools:
            work.body.set(self.param, changed)

    def _rewrite(self, work: Work, index: int, tool: dict[str, Any]) -> dict[str, Any]:
        function = tool.get("function")
        if type(function) is not dict or function.get("strict") is not True or type(function.get("parameters")) is not dict:
            return tool
        param = f"{self.param}[{index}].function.parameters"
        simplifier = Simplifier(self.dialect)
        try:
            schema = simplifier.simplify(function["parameters"])
        except NotExpressibleError as error:
            why = f"the upstream cannot enforce the schema of this function: {error}"
            work.report_lossy(f"{self.param}[{index}].function.strict", "drop", why)
            return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
        if simplifier.removed:
            names = ", ".join(sorted(simplifier.removed))
            work.report_lossy(param, "downgrade", f"strict schemas do not support {names}", code="unsupported_parameter")
        elif schema != function["parameters"]:
            work.report(param, "reshape", why=simplifier.reason())
        return {**tool, "function": {**function, "parameters": schema}}

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def report_removed(work: Work, param: str, simplifier: Simplifier) -> None:
    """Report the keywords that were removed from the schema of an answer."""
    if simplifier.removed:
        names = ", ".join(sorted(simplifier.removed))
        why = f"the upstream does not support {names}; the gateway checks the answer against the whole schema"
        work.report(param, "enforce_locally", why=why)

"""`Dialect`, the JSON Schema that a vendor enforces, and `Simplifier`, which rewrites a schema in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

_NAMED = frozenset(("properties", "$defs", "definitions", "patternProperties", "dependentSchemas"))
"""Keywords whose value is a mapping of names to schemas."""
_LISTS = frozenset(("anyOf", "allOf", "oneOf", "prefixItems"))
"""Keywords whose value is a list of schemas."""
_SINGLE = frozenset(("items", "not", "if", "then", "else", "contains", "propertyNames", "additionalProperties"))
"""Keywords whose value is a schema."""
_UNIONS = ("anyOf", "oneOf", "allOf")
_NOT_AT_THE_ROOT = (*_UNIONS, "not", "enum", "const")
_KINDS = ("type", "$ref", "enum", "const", *_UNIONS)
"""The keywords by which a schema can state its type."""
_DEFINITIONS = "#/definitions/"
_NOTHING: dict[str, Any] = {"not": {}}


def _always(key: str, value: Any) -> bool:
    return True


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON Schema that a vendor enforces."""

    source: str
    as_of: str = "2026-11"
    always: bool = False
    """Whether the dialect applies to every schema, not only to those with `strict: true`."""
    falls_back: bool = True
    """Whether the vendor accepts other schemas with `strict: false`. If not, an instruction requests the JSON."""
    keeps: frozenset[str] | None = None
    """The supported keywords. None: all except `removes`."""
    removes: frozenset[str] = frozenset()
    supports: Callable[[str, Any], bool] = _always
    """Whether a keyword of `keeps` is supported with this value."""
    guarantees: Callable[[str, Any], bool] = _always
    """Whether a supported keyword is enforced. If not, it is sent, and the gateway checks the answer."""
    rewrites_one_of: bool = False
    """Whether `oneOf` becomes `anyOf`."""
    moves_definitions: bool = False
    """Whether `definitions` becomes `$defs`."""
    closes: bool = True
    """Whether every object must have `additionalProperties: false`."""
    all_required: bool = False
    """Whether every property must be required."""
    one_required: bool = False
    """Whether an object with properties must require at least one of them."""
    empty_objects: bool = True
    """Whether objects without properties are supported."""
    root_object: bool = False
    """Whether the root must be an object without a union."""
    needs_type: bool = False
    """Whether every schema must have a type, a union, a reference or literals."""
    type_lists: bool = True
    """Whether lists of types are supported. If not, they become `anyOf`."""
    tuples: bool = True
    """Whether `items` may be a list. If not, the list becomes `prefixItems`."""
    booleans: bool = True
    """Whether `true` and `false` as schemas of properties, and unions without any variant, are supported."""
    recursive: bool = True
    max_chars: int | None = None

    @property
    def guarantees_all(self) -> bool:
        """Whether every supported keyword is enforced."""
        return self.guarantees is _always

    def keeps_keyword(self, key: str, value: Any) -> bool:
        """Return whether the dialect has a keyword with this value."""
        known = key not in self.removes if self.keeps is None else key in self.keeps
        return known and self.supports(key, value)


class NotExpressibleError(Exception):
    """A schema that the dialect cannot express. The message gives the reason."""


class Simplifier:
    """Rewrites one schema in a dialect and records the changes."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.removed: set[str] = set()
        """Keywords that were removed, so the upstream does not enforce them."""
        self.unenforced: set[str] = set()
        """Keywords that are sent, although the upstream does not enforce them."""
        self.closed = False
        self.moved = False
        self.rewritten = False

    def simplify(self, schema: Any) -> Any:
        """Return the schema in the dialect. Raise NotExpressibleError if that is impossible."""
        dialect = self._dialect
        schema = {} if schema is True or schema is None else schema
        if not dialect.recursive and _is_recursive(schema):
            raise NotExpressibleError("it refers to itself")
        if dialect.root_object:
            schema = self._with_object(schema)
        simple = self._node(schema)
        if dialect.max_chars is not None and len(msgspec.json.encode(simple)) > dialect.max_chars:
            raise NotExpressibleError(f"it has more than {dialect.max_chars} characters")
        return simple

    def reason(self) -> str:
        """Return a description of the changes that lose nothing, or "" without such a change."""
        changes = {
            "every object gets additionalProperties: false": self.closed,
            "definitions are sent as $defs": self.moved,
            "some keywords are written in the upstream's form": self.rewritten,
        }
        return "; ".join(text for text, applies in changes.items() if applies)

    def _with_object(self, schema: Any) -> Any:
        """Return a schema with an object at the root, which may be behind a reference."""
        if is_object_schema(schema):
            return schema
        target = resolved(schema, schema)
        if type(schema) is not dict or target is schema or not is_object_schema(target):
            raise NotExpressibleError("its root is not an object without a union")
        self.rewritten = True
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {**rest, **target}

    def _node(self, node: Any) -> Any:
        dialect = self._dialect
        if type(node) is not dict:
            return node
        if not dialect.booleans and any(node.get(name) == [] for name in ("enum", "anyOf")):
            self.rewritten = True
            return dict(_NOTHING)
        result: dict[str, Any] = {}
        for key, value in node.items():
            self._keyword(result, key, value)
        if dialect.needs_type and not any(name in result for name in _KINDS):
            raise NotExpressibleError("it has a schema without a type")
        types = node.get("type")
        if type(types) is list and not dialect.type_lists:
            self._split_types(result, types)
        if types == "object" or (type(types) is list and "object" in types) or "properties" in node:
            self._close(result, node)
        return result

    def _keyword(self, result: dict[str, Any], key: str, value: Any) -> None:
        dialect = self._dialect
        if key == "additionalProperties" and dialect.closes:
            return
        if key == "$ref":
            result[key] = self._reference(value)
        elif key == "oneOf" and dialect.rewrites_one_of and type(value) is list and "anyOf" not in result:
            result["anyOf"] = [self._node(child) for child in value]
            self.removed.add(key)
        elif key == "items" and type(value) is list and not dialect.tuples:
            result["prefixItems"] = [self._node(child) for child in value]
            self.rewritten = True
        elif key == "additionalItems" and not dialect.tuples:
            result["items"] = self._node(value)
            self.rewritten = True
        elif not dialect.keeps_keyword(key, value):
            self.removed.add(key)
        else:
            if not dialect.guarantees(key, value):
                self.unenforced.add(key)
            self._keep(result, key, value)

    def _keep(self, result: dict[str, Any], key: str, value: Any) -> None:
        if key in _NAMED and type(value) is dict:
            children = {name: self._property(child) if key == "properties" else self._node(child) for name, child in value.items()}
            if key == "definitions" and self._dialect.moves_definitions:
                self.moved = True
                key = "$defs"
            result[key] = {**result.get(key, {}), **children} if key == "$defs" else children
        elif type(value) is list and (key in _LISTS or key == "items"):
            result[key] = [self._node(child) for child in value]
        else:
            result[key] = self._node(value) if key in _SINGLE else value

    def _property(self, schema: Any) -> Any:
        if type(schema) is not bool or self._dialect.booleans:
            return self._node(schema)
        self.rewritten = True
        return {} if schema else dict(_NOTHING)

    def _split_types(self, result: dict[str, Any], types: list[Any]) -> None:
        """Write a list of types as `anyOf`. Keywords of other types have no effect, so each branch except null keeps all."""
        if "anyOf" in result:
            raise NotExpressibleError("it has a list of types beside a union")
        rest = {name: value for name, value in result.items() if name not in ("type", "title", "description", "$defs")}
        for name in rest:
            del result[name]
        del result["type"]
        kinds = [kind for kind in types if kind != "null" or None in rest.get("enum", (None,))]
        branches: list[dict[str, Any]] = [{"type": "null"} if kind == "null" else {"type": kind, **rest} for kind in kinds]
        result["anyOf"] = branches
        for branch in branches:
            if branch["type"] == "object" and self._dialect.closes:
                branch["additionalProperties"] = False
        self.rewritten = True

    def _reference(self, value: Any) -> Any:
        if not str(value).startswith("#"):
            raise NotExpressibleError("it refers to another document")
        if self._dialect.moves_definitions and str(value).startswith(_DEFINITIONS):
            return "#/$defs/" + str(value).removeprefix(_DEFINITIONS)
        return value

    def _close(self, result: dict[str, Any], node: dict[str, Any]) -> None:
        dialect = self._dialect
        required = node.get("required")
        properties = node.get("properties")
        needed = {name for name in required if type(name) is str} if type(required) is list else set()
        if dialect.all_required and set(properties if type(properties) is dict else ()) - needed:
            raise NotExpressibleError("it has an optional property")
        has_properties = bool(node.get("properties"))
        if dialect.one_required and not needed and (has_properties or not dialect.empty_objects):
            raise NotExpressibleError("it has an object without a required property")
        if not dialect.closes:
            return
        extra = node.get("additionalProperties")
        if (type(extra) is dict or node.get("patternProperties")) and not node.get("properties"):
            raise NotExpressibleError("it has an object with arbitrary property names")
        self.closed = self.closed or extra is not False
        if "anyOf" not in result or "type" in result or dialect.type_lists:
            result["additionalProperties"] = False


def is_object_schema(schema: Any) -> bool:
    """Return whether a schema describes an object and has no union, `not`, `enum` or `const` at its top level."""
    return type(schema) is dict and schema.get("type") == "object" and not any(name in schema for name in _NOT_AT_THE_ROOT)


def resolved(branch: Any, schema: dict[str, Any]) -> Any:
    """Return the definition that a branch refers to, or the branch itself."""
    reference = branch.get("$ref") if type(branch) is dict else None
    if type(reference) is not str or not reference.startswith("#/"):
        return branch
    found: Any = schema
    for name in reference[2:].split("/"):
        found = found.get(name) if type(found) is dict else None
    return found if type(found) is dict else branch


def _references(node: Any) -> set[str]:
    if type(node) is list:
        return {reference for child in node for reference in _references(child)}
    if type(node) is not dict:
        return set()
    own = {cast("str", node["$ref"])} if type(node.get("$ref")) is str else set()
    return own.union(*(_references(value) for value in node.values()))


def _is_recursive(schema: Any) -> bool:
    if type(schema) is not dict:
        return False
    edges = {
        f"#/{group}/{name}": _references(child)
        for group in ("$defs", "definitions")
        if type(schema.get(group)) is dict
        for name, child in schema[group].items()
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

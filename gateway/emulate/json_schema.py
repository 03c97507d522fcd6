"""Validates the subset of JSON Schema that needs no library, and describes the first error in words.

Checked: type, enum, const, properties, required, additionalProperties, items, minItems, maxItems, minLength, maxLength, minimum,
maximum, exclusiveMinimum, exclusiveMaximum, anyOf, oneOf, allOf, and $ref inside the schema. Not checked, so never reported as wrong:
pattern, format, multipleOf, uniqueItems, prefixItems, contains, patternProperties, propertyNames, dependent*, if/then/else, not, and
references to other documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

DEEPEST = 64
"""Maximum number of levels of nesting and references that are followed. Deeper values are not checked."""

_IS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "number": lambda value: type(value) in (int, float),
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
}


def find_error(value: Any, schema: Any) -> str | None:
    """Return the first error in `value` with its place, such as `$.name[0] must be ...`, or None."""
    return _check(value, schema, schema, "$", 0)


def _check(value: Any, schema: Any, root: Any, at: str, depth: int) -> str | None:
    if schema is False:
        return f"{at} is not allowed"
    if type(schema) is not dict or depth > DEEPEST:
        return None
    if type(schema.get("$ref")) is str:
        return _check(value, _follow(schema["$ref"], root), root, at, depth + 1)
    wrong = _check_itself(value, schema, at) or _check_any(value, schema, root, at, depth + 1)
    if wrong is None and type(value) is dict:
        wrong = _check_object(value, schema, root, at, depth + 1)
    elif wrong is None and type(value) is list:
        items = schema.get("items")
        wrong = next((found for i, one in enumerate(value) if (found := _check(one, items, root, f"{at}[{i}]", depth + 1))), None)
    return wrong


def _follow(ref: str, root: Any) -> Any:
    """Return the schema that a reference inside the document refers to, or None for other references."""
    found = root
    for step in ref.split("/")[1:] if ref.startswith("#") else ("",):
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if type(found) is dict else None
    return found


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    return bool(one == other) and (type(one) is bool) == (type(other) is bool)


def _check_itself(value: Any, schema: dict[str, Any], at: str) -> str | None:
    """Check type, values and sizes."""
    types = schema.get("type")
    names = [types] if type(types) is str else types if type(types) is list else []
    known = [_IS[name] for name in names if type(name) is str and name in _IS]
    if known and not any(check(value) for check in known):
        return f"{at} must be of type {' or '.join(names)}"
    if type(schema.get("enum")) is list and not any(_same(value, one) for one in schema["enum"]):
        return f"{at} is none of the values of enum"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{at} is not the constant value"
    if type(value) in (str, list):
        name = "Length" if type(value) is str else "Items"
        return _bounds(len(value), schema, f"the length of {at}", f"min{name}", f"max{name}")
    if type(value) in (int, float):
        return _bounds(value, schema, at, "minimum", "maximum")
    return None


def _number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float)


def _bounds(value: float, schema: dict[str, Any], what: str, low: str, high: str) -> str | None:
    least, most = schema.get(low), schema.get(high)
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if _number(least) and value < least:
        return f"{what} must be at least {least}"
    if _number(most) and value > most:
        return f"{what} must be at most {most}"
    if low == "minimum" and _number(over) and value <= over:
        return f"{what} must be over {over}"
    if low == "minimum" and _number(under) and value >= under:
        return f"{what} must be under {under}"
    return None


def _check_object(value: dict[str, Any], schema: dict[str, Any], root: Any, at: str, depth: int) -> str | None:
    required = schema.get("required")
    for name in required if type(required) is list else ():
        if name not in value:
            return f"{at} lacks '{name}'"
    known = schema.get("properties")
    known = known if type(known) is dict else {}
    others = schema.get("additionalProperties") if "patternProperties" not in schema else None
    for name, one in value.items():
        if others is False and name not in known:
            return f"{at} has '{name[:64]}', which the schema does not allow"
        wrong = _check(one, known.get(name, others), root, f"{at}.{name[:64]}", depth)
        if wrong:
            return wrong
    return None


def _check_any(value: Any, schema: dict[str, Any], root: Any, at: str, depth: int) -> str | None:
    """Check allOf, anyOf and oneOf."""
    for one in _list(schema, "allOf"):
        if wrong := _check(value, one, root, at, depth):
            return wrong
    if schemas := _list(schema, "anyOf"):
        found = [_check(value, one, root, at, depth) for one in schemas]
        if None not in found:
            return f"{at} fits none of anyOf (the first error: {found[0]})"
    if schemas := _list(schema, "oneOf"):
        fitting = [_check(value, one, root, at, depth) for one in schemas].count(None)
        if not fitting:
            return f"{at} fits none of oneOf"
    return None


def _list(schema: dict[str, Any], name: str) -> list[Any]:
    found = schema.get(name)
    return found if type(found) is list else []

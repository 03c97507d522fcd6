"""Readers for scalars by type: numbers, booleans, words, text. They raise ValueError with the expected form if a scalar does not fit."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

import msgspec
from msgspec import inspect as mi

from gateway.config.formats import FORMATS
from gateway.config.problem import shorten, suggest
from gateway.config.yamlfile import Scalar


def describe_type(kind: mi.Type) -> str:
    """Return a short description of the values that a type accepts."""
    while isinstance(kind, mi.Metadata):
        form = (kind.extra or {}).get("form")
        if form == "secrets":
            return '"${NAME}" or file:PATH'
        if form in FORMATS:
            return (
                f"a value such as {FORMATS[form].schema['examples'][0]}"
                if "examples" in FORMATS[form].schema
                else "a value"
            )
        kind = kind.type
    if isinstance(kind, mi.UnionType):
        return " or ".join(describe_type(each) for each in kind.types if not isinstance(each, mi.NoneType))
    if isinstance(kind, mi.LiteralType):
        return "one of " + ", ".join(str(value) for value in kind.values)
    names: dict[type, str] = {
        mi.IntType: "an integer", mi.FloatType: "a number", mi.BoolType: "true or false", mi.StrType: "text",
        mi.VarTupleType: "a list", mi.ListType: "a list", mi.DictType: "a mapping", mi.StructType: "a mapping",
    }  # fmt: skip
    return names.get(type(kind), "a value")


def read_scalar(text: str, node: Scalar, kind: mi.Type) -> Any:
    """Return the value of a scalar. Raise ValueError with the expected form if the scalar does not fit the type."""
    got = f"; got {shorten(node.text)}"
    bare = node.plain or "${" in node.text
    if isinstance(kind, mi.LiteralType):
        for value in kind.values:
            if text == str(value):
                return value
        raise ValueError(f"expected {describe_type(kind)}{got}{_near(text, kind)}")
    if isinstance(kind, mi.BoolType):
        if bare and text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ValueError(f"expected true or false{got}")
    if isinstance(kind, mi.IntType | mi.FloatType):
        if not bare:
            raise ValueError(f"expected {describe_type(kind)}, without quotes{got}")
        return _number(text, kind, got)
    if isinstance(kind, mi.StrType):
        return _checked_text(text, kind, got)
    return _plain_value(text) if bare and isinstance(kind, mi.AnyType) else text


def _plain_value(text: str) -> Any:
    """Return the value of a number, true, false or null, and any other text unchanged."""
    try:
        value = msgspec.json.decode(text.lower() if text.lower() in ("true", "false", "null") else text)
    except msgspec.DecodeError:
        return text
    return text if type(value) in (dict, list, str) else value


def _near(text: str, kind: mi.LiteralType) -> str:
    words = [str(value) for value in kind.values]
    hint = suggest(text, words)
    return hint if "did you mean" in hint else ""


def _number(text: str, kind: mi.IntType | mi.FloatType, got: str) -> int | float:
    convert: type[int] | type[float] = int if isinstance(kind, mi.IntType) else float
    try:
        value = msgspec.convert(text, convert, strict=False) if text.isascii() and len(text) < 40 else None
    except msgspec.ValidationError:
        value = None
    if value is None or not isfinite(value):
        raise ValueError(f"expected {describe_type(kind)}{got}")
    return check_bounds(value, kind, got)


def check_bounds(value: int | float, kind: mi.IntType | mi.FloatType, got: str) -> int | float:
    """Return the number if it is within the bounds of its type. Raise ValueError otherwise."""
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if (low is not None and (value < low or value == kind.gt)) or (
        high is not None and (value > high or value == kind.lt)
    ):
        bounds = [f"at least {kind.ge}" if kind.ge is not None else f"more than {kind.gt}"] if low is not None else []
        bounds += [f"at most {kind.le}" if kind.le is not None else f"less than {kind.lt}"] if high is not None else []
        raise ValueError(f"expected {describe_type(kind)}, {' and '.join(bounds)}{got}")
    return value


def _checked_text(text: str, kind: mi.StrType, got: str) -> str:
    if kind.min_length and len(text) < kind.min_length:
        raise ValueError(
            "expected text, got nothing" if not text else f"expected at least {kind.min_length} characters{got}"
        )
    if kind.max_length is not None and len(text) > kind.max_length:
        raise ValueError(f"expected at most {kind.max_length} characters{got}")
    if kind.pattern and not re.search(kind.pattern, text):
        raise ValueError(f"expected text that matches {kind.pattern}{got}")
    return text


def check_header(text: str) -> str:
    """Return the text if it is valid in a header. Raise ValueError otherwise."""
    if not all(" " <= letter <= "~" for letter in text) or text != text.strip():
        raise ValueError("a header must be printable ASCII without surrounding spaces or line breaks")
    return text

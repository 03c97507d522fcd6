"""The JSON Schema of each check accepts exactly the values that the check accepts."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from gateway.dialects import completions, embeddings, rerank, shapes
from gateway.dialects.described import described, nullable, schema_of
from gateway.dialects.parameters import CHECKS, check_parameters
from gateway.errors import BadRequest
from providers.base import Body
from tests.support.each import each

TABLES = {"chat": CHECKS, "completions": completions.FIELDS, "embeddings": embeddings.FIELDS, "rerank": rerank.FIELDS}
FIELDS = [
    (api, name)
    for api, table in TABLES.items()
    for name in table
    if api == "chat" or table[name] is not CHECKS.get(name)
]
BOUNDS = (-(2**63), -(2**53), -1, 0, 1, 8, 20, 128, 256, 1_000, 1 << 20, 2**31 - 1, 2**53, 2**63 - 1)
NUMBERS = sorted({bound + by for bound in BOUNDS for by in (-1, 0, 1)})
TEXTS = ("", "auto", "float", "base64", "a b", "tab\tbed", "line\n", "\x00", "\x7f", "ü", "json_object")
FUNCTIONS: list[Any] = [
    {},
    {"name": "f"},
    {"name": 1},
    {"name": "f", "parameters": {}},
    {"name": "f", "parameters": None},
    {"name": "f", "parameters": []},
]
TOOLS = [
    {**kind, **one}
    for kind in ({}, {"type": None}, {"type": "function"}, {"type": "custom"}, {"type": "web_search"}, {"type": 3})
    for one in ({}, *({name: each} for name in ("function", "custom") for each in (*FUNCTIONS, None, "f")))
]
FORMATS = [
    {"type": kind, **more}
    for kind in ("text", "json_object", "json_schema", None, 1)
    for more in (
        {},
        {"json_schema": None},
        *({"json_schema": {"schema": each}} for each in ({}, True, False, None, 1, [])),
        {"json_schema": {}},
    )
]
LISTS: list[Any] = [
    [],
    [0],
    [-1],
    [2**31],
    [2**31 - 1],
    ["a"],
    [""],
    ["a", 1],
    [1, "a"],
    [True],
    [1.5],
    [None],
    [[]],
    [[1]],
    [[1], []],
    [[1], "a"],
    [["a"]],
    ["x"] * 8,
    ["x"] * 9,
    ["x"] * 128,
    ["x"] * 129,
    ["x"] * 256,
    ["x"] * 257,
    [7] * 128,
    [7] * 129,
    [7] * 257,
    [{}] * 1_025,
    [2**63],
    [-(2**63)],
]
OBJECTS: list[Any] = [
    {},
    {"a": "b"},
    {"a": "b\n"},
    {"a\n": "b"},
    {"a": 1},
    {"a": 1.5},
    {"a": 2**54},
    {"a": True},
    {"a": None},
    {"include_usage": True},
    {"include_usage": 1},
    {"include_obfuscation": None},
    {"name": "f"},
]
VALUES: list[Any] = [
    *NUMBERS,
    0.5,
    -2.5,
    1.5e-30,
    True,
    False,
    *TEXTS,
    *LISTS,
    *OBJECTS,
    *TOOLS,
    *FORMATS,
    *FUNCTIONS,
    *([tool] for tool in TOOLS),
    *([function] for function in FUNCTIONS),
]


def accepts(check: Any, value: Any) -> bool:
    """Return whether a check accepts a value."""
    try:
        check("field", value)
    except BadRequest:
        return False
    return True


@each("field", FIELDS, ids=lambda field: f"{field[0]} {field[1]}")
def test_schema_and_check_accept_the_same_values(field: tuple[str, str]) -> None:
    check = TABLES[field[0]][field[1]]
    validator = jsonschema_rs.validator_for(schema_of(check))
    different = [value for value in VALUES if validator.is_valid(value) != accepts(check, value)]
    assert different == []


def test_values_try_both_outcomes_of_every_check() -> None:
    outcomes = {field: {accepts(TABLES[field[0]][field[1]], value) for value in VALUES} for field in FIELDS}
    assert {field for field, both in outcomes.items() if both != {True, False}} == set()


def test_function_needs_a_name_but_no_parameters() -> None:
    validator = jsonschema_rs.validator_for(shapes.FUNCTION)
    assert [validator.is_valid(function) for function in FUNCTIONS] == [False, True, False, True, True, False]


def test_check_without_a_schema_is_an_error() -> None:
    def check(param: str, value: Any) -> None: ...

    with pytest.raises(KeyError):
        schema_of(check)
    assert schema_of(described({"type": "string"})(check)) == {"type": "string"}


@each(
    "schema",
    [
        {"type": "string"},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "string"}]},
        {"type": "string", "enum": ["a"]},
    ],
)
def test_nullable_schema_accepts_null_and_what_it_did(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(nullable(schema))
    assert [validator.is_valid(value) for value in (None, "a", 1)] == [True, True, False]
    body = Body(b'{"model":"m","messages":[{"role":"user","content":"a"}],"stop":null}')
    check_parameters(body)

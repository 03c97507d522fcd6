"""JSON mode by laws: whitespace ends at one place whatever the chunks, and no schema's error is invented."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.json_mode import CUT_OFF, MAX_BLANKS, RUNAWAY, JsonFormat, JsonStream, JsonValidator
from gateway.emulate.json_schema import find_error
from providers.base import Body

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.sampled_from(["", "a", "ab"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)),
    max_leaves=6,
)
TYPES = st.sampled_from(["object", "array", "string", "boolean", "null", "number", "integer"])
SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.one_of(TYPES, st.lists(TYPES, min_size=1, max_size=3, unique=True)),
                "enum": st.lists(VALUES, min_size=1, max_size=3),
                "const": VALUES,
                "required": st.lists(st.sampled_from("xyz"), unique=True),
                "minimum": st.integers(-2, 2),
                "exclusiveMaximum": st.integers(-2, 2),
                "maxLength": st.integers(0, 2),
                "minItems": st.integers(0, 2),
            },
        ),
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "$defs": st.fixed_dictionaries({"x": inner}),
        },
    ),
    max_leaves=5,
)


@given(VALUES, SCHEMAS)
def test_what_is_checked_is_judged_as_a_full_validator_does(value: Any, schema: Any) -> None:
    assert (find_error(value, schema) is None) == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(("value", "fits"), [({"x": {"x": None}}, True), ({"x": {"x": 3}}, False)])
def test_references_inside_the_schema_are_followed(value: Any, fits: bool) -> None:
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"type": ["object", "null"], "properties": {"x": {"$ref": "#/$defs/x"}}}}}
    assert (find_error(value, schema) is None) == fits


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/no"}, {"$ref": "https://elsewhere"}, {"type": 3, "required": 3}])
def test_schemas_that_lead_nowhere_find_nothing(schema: Any) -> None:
    assert find_error({"x": 1}, schema) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"a":1}', None),
        ("[1]", "it is not a JSON object"),
        ("sure: {}", "it is not JSON"),
        ("", "it is not JSON"),
        ("[" * 9000, "it is not JSON"),
    ],
)
def test_an_object_was_asked_for(text: str, error: str | None) -> None:
    assert JsonFormat().find_error(text) == error


def streamed(text: str, cuts: list[int], finish: str = "stop") -> tuple[str, str | None, list[str], bool]:
    """Text, finish reason, notes, and whether the upstream was left early."""
    stream = JsonStream(None, JsonValidator(JsonFormat(), Body(b"{}"), is_checked=True, may_repair=False), 1)
    at = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": text[a:b]}, None) for a, b in pairwise(at)]
    out: list[bytes] = []
    for delta, end in [*deltas, ({}, finish)]:
        out += stream.feed("", json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}).encode())
    choices = [choice for one in out if one != b"[DONE]" for choice in json.loads(one)["choices"]]
    said = "".join(choice["delta"].get("content", "") for choice in choices)
    return said, choices[-1]["finish_reason"], [note.why for note in stream.notes()], b"[DONE]" in out


@given(
    st.lists(st.tuples(st.sampled_from(["{", "a", ""]), st.sampled_from([1, 200, 511, 512, 513, 600])), max_size=4),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_whitespace_is_cut_at_one_place_whatever_the_chunks(parts: list[tuple[str, int]], cuts: list[int]) -> None:
    text = "".join(letter + " \n"[size % 2] * size for letter, size in parts)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    validator = JsonValidator(JsonFormat(), Body(b"{}"), is_checked=True, may_repair=False)
    answer, notes = validator.check_answer(json.dumps({"choices": [choice]}).encode())
    whole = json.loads(answer)["choices"][0]
    said, finish, told, left = streamed(text, cuts)
    assert (said, finish, told) == (whole["message"]["content"], whole["finish_reason"], [note.why for note in notes])
    assert left == (said != text) == (told == [RUNAWAY])
    longest = max((len(blanks) for blanks in said.replace("{", "a").split("a")), default=0)
    assert longest <= MAX_BLANKS


def test_json_that_is_cut_off_is_flagged_and_not_judged() -> None:
    assert streamed('{"a": ', [], "length")[1:3] == ("length", [CUT_OFF])


def test_chunks_that_need_nothing_keep_their_bytes() -> None:
    stream = JsonStream(None, JsonValidator(JsonFormat(), Body(b"{}"), is_checked=False, may_repair=False), 1)
    event = b'{"choices":[ {"index":0,"delta":{"content":"{ }"},"finish_reason":null}]}'
    assert stream.feed("", event) == [event]
    assert stream.notes() == []

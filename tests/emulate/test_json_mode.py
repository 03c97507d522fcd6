"""Properties of JSON mode: whitespace is cut at the same place for any chunks, and no error is reported for valid JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.json_mode import CUT_OFF, MAX_BLANKS, RUNAWAY, UNFENCED, JsonFormat, JsonStream, JsonValidator, adapt
from gateway.emulate.json_schema import Schema, find_error
from providers.base import Body, Options
from tests.providers.adapting import target_for
from tests.support.each import each

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
def test_checked_values_are_judged_as_by_a_full_validator(value: Any, schema: Any) -> None:
    assert (find_error(value, schema) is None) == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(("value", "fits"), [({"x": {"x": None}}, True), ({"x": {"x": 3}}, False)])
def test_references_inside_the_schema_are_followed(value: Any, fits: bool) -> None:
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"type": ["object", "null"], "properties": {"x": {"$ref": "#/$defs/x"}}}}}
    assert (find_error(value, schema) is None) == fits


@each("schema", [{"$ref": "#"}, {"$ref": "#/no"}, {"$ref": "https://elsewhere"}, {"type": 3, "required": 3}])
def test_schemas_that_lead_nowhere_find_nothing(schema: Any) -> None:
    assert find_error({"x": 1}, schema) is None


@each(
    ("text", "error"),
    [
        ('{"a":1}', None),
        ("[1]", "it is not a JSON object"),
        ("sure: {}", "it is not JSON"),
        ("", "it is not JSON"),
        ("[" * 9000, "it is not JSON"),
    ],
)
def test_text_that_is_not_a_json_object_is_an_error(text: str, error: str | None) -> None:
    assert JsonFormat().find_error(text) == error


def streamed(text: str, cuts: list[int], finish: str = "stop", *, removes_fence: bool = False) -> tuple[str, str | None, list[str], bool]:
    """Return the text, the finish reason, the notes, and whether the upstream was aborted early."""
    validator = JsonValidator(JsonFormat(), Body(b"{}"), is_checked=True, may_repair=False, removes_fence=removes_fence)
    stream = JsonStream(None, validator, 1)
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


FENCED = st.tuples(
    st.sampled_from(["", "\n", "  "]),
    st.sampled_from(["```json\n", "```\n", "```JSON \r\n", "``` json\n", "", "`", "``", "```python\n"]),
    st.sampled_from(['{"a": 1}', '{"code": "```py```"}', "{\n}", "", " {} ", "```"]),
    st.sampled_from(["\n```", "```", "\n```\n\n", "", "\n``", "\n``` done"]),
)


@given(FENCED.map("".join), st.lists(st.integers(0, 40), max_size=8), st.sampled_from(["stop", "length"]))
def test_a_fence_is_removed_alike_from_a_stream_and_an_answer(text: str, cuts: list[int], finish: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    validator = JsonValidator(JsonFormat(), Body(b"{}"), is_checked=True, may_repair=False, removes_fence=True)
    answer, notes = validator.check_answer(json.dumps({"choices": [choice]}).encode())
    whole = json.loads(answer)["choices"][0]["message"]["content"]
    said, _, told, _ = streamed(text, cuts, finish, removes_fence=True)
    assert (said, told) == (whole, [note.why for note in notes])
    assert (UNFENCED in told) == (said != text)


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', '\n```\n{"a": 1}\n```\n', '```JSON\r\n{"a": 1}\r\n```'])
def test_an_answer_that_is_one_fenced_block_is_valid_without_its_fence(text: str) -> None:
    assert streamed(text, list(range(len(text))), removes_fence=True) == ('{"a": 1}', "stop", [UNFENCED], False)


def test_a_fence_stays_where_the_provider_has_a_json_mode() -> None:
    assert streamed("```\n{}\n```", [3])[0] == "```\n{}\n```"


@each(
    ("schema", "value", "fits"),
    [
        ({"pattern": "^a(?!b)"}, "ac", True),
        ({"pattern": "^a(?!b)"}, "ab", False),
        ({"pattern": "^(a+)+$"}, "a" * 60 + "b", False),
        ({"uniqueItems": True}, [1, 1], False),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a", 1], False),
        ({"if": {"required": ["x"]}, "then": {"required": ["y"]}}, {"x": 1}, False),
        ({"multipleOf": 0.5}, 1.25, False),
        ({"patternProperties": {"^x": {"type": "string"}}}, {"x1": 1}, False),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, [1], False),
        ({"not": {"type": "null"}}, None, False),
    ],
)
def test_every_keyword_of_a_schema_is_checked(schema: dict[str, Any], value: Any, fits: bool) -> None:
    assert (find_error(value, schema) is None) == fits


def test_an_error_names_the_place_and_not_the_value() -> None:
    error = find_error({"a": ["ok", "secret"]}, {"properties": {"a": {"items": {"enum": ["ok"]}}}})
    assert error == '$.a[1]: the value is not one of "ok"'


@each("schema", [{"type": "text"}, {"$ref": "https://x.example/x"}, {"$ref": "#/no"}, {"$schema": "urn:x"}, [], 1])
def test_a_schema_that_cannot_be_compiled_is_reported(schema: Any) -> None:
    assert Schema(schema).problem
    validator = JsonValidator(JsonFormat(schema), Body(b"{}"), is_checked=True, may_repair=True)
    note = validator.check_text("{}", "stop")
    assert note is not None
    assert "not checked" in note.why
    assert validator.error is None


def test_an_instruction_does_not_change_the_callers_numbers_of_messages() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning": "r"}, {"role": "user", "content": "c"}]
    request = {"model": "m", "messages": messages, "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}
    body, adjustments, _ = adapt(Body(json.dumps(request).encode()), target_for("siati"), Options())
    assert len(body.get("messages")) == 4
    assert [item.param for item in adjustments if item.param.startswith("messages")] == ["messages[0]", "messages[1].reasoning"]

"""The parameters of a request: translated, repeated in the response, reported or refused."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.parameters import check_parameters
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.responses_api.request import INCLUDABLE, INSTEAD, NOT_SUPPORTED, RequestReader
from gateway.errors import BadRequest
from providers.base import Body
from tests.dialects.responses_api.grammar import response_of, to_chat, translator
from tests.dialects.responses_api.test_upstreams import REQUEST
from tests.providers.wires import answer

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"temperature": 0.5, "top_p": 0.9, "user": "u"}, {"temperature": 0.5, "top_p": 0.9, "user": "u"}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"safety_identifier": "s", "prompt_cache_key": "k"}, {"safety_identifier": "s", "prompt_cache_key": "k"}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"seed": 3, "stop": ["x"], "top_k": 4}, {"seed": 3, "stop": ["x"], "top_k": 4}),
        ({"stream": True}, {"stream": True}),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, {"stream": True}),
        ({"stream": False}, {"stream": False}),
        ({"truncation": "auto"}, {"context_length_exceeded_behavior": "truncate"}),
        ({"truncation": "disabled"}, {"context_length_exceeded_behavior": "error"}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": None, "summary": "auto", "context": "auto", "mode": "standard"}}, {}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True, "description": None}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        ),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"top_logprobs": 3}, {"top_logprobs": 3, "logprobs": True}),
        ({"top_logprobs": 0}, {}),
        ({"store": False, "background": False, "metadata": {"a": "b"}, "max_tool_calls": 3}, {}),
        ({"previous_response_id": None, "store": None, "tools": None, "text": None, "reasoning": None}, {}),
        ({"context_management": []}, {}),
        ({"client_metadata": {"session_id": "x"}}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_parameter_becomes_that_of_a_chat_completion(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert to_chat(given, strict=True) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **expected}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"instructions": 3}, "instructions"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": "x"}, "metadata"),
        ({"max_tool_calls": "3"}, "max_tool_calls"),
        ({"store": 1}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "middle"}, "truncation"),
        ({"include": ["everything"]}, "include[0]"),
        ({"include": "x"}, "include"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"text": {"verbosity": 1}}, "text.verbosity"),
        *(({name: "x"}, name) for name in (*INSTEAD, *NOT_SUPPORTED)),
    ],
    ids=str,
)
def test_invalid_parameter_is_refused_under_its_own_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        to_chat(given)
    assert refused.value.param == param
    assert f"'{param}" in refused.value.message


def test_parameters_that_moved_name_their_place() -> None:
    with pytest.raises(BadRequest, match=r"use 'text\.format'"):
        to_chat({"response_format": {"type": "json_object"}})


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": "concise"}}, "reasoning.generate_summary"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ],
    ids=str,
)
def test_what_a_chat_completion_cannot_express_is_reported_and_refused_in_strict_mode(
    given: dict[str, Any], param: str
) -> None:
    assert [each.param for each in translator(**given).adjustments] == [param]
    with pytest.raises(BadRequest) as refused:
        to_chat(given, strict=True)
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")


def test_change_without_loss_is_reported_in_strict_mode_too() -> None:
    reader = RequestReader(strict=True)
    reader.read(b'{"model":"m","input":"Hi","max_tool_calls":2}')
    assert [(each.param, each.action) for each in reader.changes.made] == [("max_tool_calls", "drop")]


def test_every_includable_value_is_accepted() -> None:
    assert to_chat({"include": list(INCLUDABLE)}, strict=True)["logprobs"] is True


@pytest.mark.parametrize("source", [b"", b"[]", b"{", b'"x"', b'{"a":1,}', b"\xff"])
def test_body_that_is_not_an_object_is_left_to_the_common_check(source: bytes) -> None:
    assert RequestReader(strict=False).read(source) == source


def test_response_repeats_the_parameters_or_their_defaults() -> None:
    given = {
        "instructions": "Be kind", "max_output_tokens": 50, "metadata": {"a": "b"}, "parallel_tool_calls": False, "temperature": 0.5,
        "tool_choice": "none", "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}], "top_p": 0.5,
        "text": {"format": {"type": "json_object"}}, "truncation": "auto", "reasoning": {"effort": "low"}, "user": "u",
    }  # fmt: skip
    plain, full = response_of(answer({"content": "a"}, "stop")), response_of(answer({"content": "a"}, "stop"), **given)
    assert {name: full[name] for name in given} == given
    assert plain["tools"] == []
    assert plain["tool_choice"] == "auto"
    assert plain["parallel_tool_calls"] is True
    assert plain["text"] == {"format": {"type": "text"}}
    assert (plain["store"], plain["background"], plain["previous_response_id"]) == (False, False, None)


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [None],
    [{}],
    ["x"],
    {"type": 3},
    {"type": "x"},
    [[]],
    {"a": None},
]


def mutated(random: Random, value: Any) -> Any:
    """Return a copy of the value with one unusual value at a random place."""
    if type(value) is dict and value and random.random() < 0.9:
        name = random.choice(list(value))
        return {**value, name: mutated(random, value[name])}
    if type(value) is list and value and random.random() < 0.9:
        index = random.randrange(len(value))
        return [*value[:index], mutated(random, value[index]), *value[index + 1 :]]
    return random.choice(ODD)


def test_any_odd_value_is_accepted_or_refused_with_its_place() -> None:
    random, refused = Random(9), []
    for _ in range(3_000):
        body = mutated(random, {"model": "m", **REQUEST})
        source = json.dumps(body).encode()
        made = ResponsesTranslator()
        try:
            chat = made.request(source, strict=False)
            if chat != source:
                check_parameters(Body(chat))
        except BadRequest as error:
            refused.append((made.param(error.param or ""), body))
    assert len(refused) > 500
    for param, body in refused:
        name = param.partition(".")[0].partition("[")[0]
        assert name in body or name in ("input", "instructions"), (param, body)

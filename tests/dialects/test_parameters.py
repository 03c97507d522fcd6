"""Checks of parameters: invalid values are a 400 that names the parameter; a valid body is not changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.field_checks import FORBIDDEN_FIELDS
from gateway.dialects.parameters import CHECKS, MAX_STOP_STRINGS, MAX_TOOLS, check_parameters, read_model
from gateway.errors import BadRequest
from providers.base import Body
from tests.support.each import each

USER = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": "m", "messages": [USER]}


def check(**more: Any) -> None:
    """Check a valid body with these additional fields."""
    source = json.dumps(GOOD | more).encode()
    body = Body(source)
    check_parameters(body)
    assert body.encode() == source, "the body must not change"


def rejected_param(**more: Any) -> str | None:
    """Return the parameter that the rejection of these fields names ("" if it names none), or None if they are accepted."""
    try:
        check(**more)
    except BadRequest as error:
        return error.param or ""
    return None


def rejection(**more: Any) -> BadRequest:
    """Return the rejection of a body with these fields."""
    with pytest.raises(BadRequest) as error:
        check(**more)
    return error.value


TYPES: dict[str, Any] = {
    "null": None, "true": True, "int": 1, "float": 0.5, "text": "x", "list": [], "objects": [{}], "object": {}, "texts": ["x"],
}  # fmt: skip
GOOD_TYPES: dict[str, set[str]] = {
    "stop": {"text", "list", "texts"},
    "temperature": {"int", "float"},
    "top_p": {"int", "float"},
    "n": {"int"},
    "seed": {"int", "list"},
    "max_tokens": {"int"},
    "stream": {"true"},
    "user": {"text"},
    "metadata": {"object"},
    "logit_bias": {"object"},
    "stream_options": {"object"},
    "tools": {"list"},
    "logprobs": {"true", "int"},
    "parallel_tool_calls": {"true"},
    "response_format": set(),
}


@each("param", sorted(GOOD_TYPES))
@each("kind", sorted(TYPES))
def test_a_field_of_the_wrong_type_is_named(param: str, kind: str) -> None:
    if kind == "null" or kind in GOOD_TYPES[param]:
        check(**{param: TYPES[kind]})
    else:
        error = rejection(**{param: TYPES[kind]})
        assert error.status == 400
        assert (error.param or "").split("[")[0].split(".")[0] == param


@given(st.sampled_from(sorted(CHECKS)), st.sampled_from(list(TYPES.values())) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
))  # fmt: skip
def test_any_value_of_any_field_is_accepted_or_rejected(param: str, value: Any) -> None:
    named = rejected_param(**{param: value})
    assert named is None or named.split("[")[0].split(".")[0] == param


@each(("param", "value"), [
    ("n", 0), ("n", 1_000_000), ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", 10**12), ("n", True),
    ("top_logprobs", 10**9), ("top_logprobs", -1), ("seed", 2**64), ("seed", [1, "x"]), ("stop", ["x"] * (MAX_STOP_STRINGS + 1)),
    ("tools", [{"type": "function", "function": {"name": "f"}}] * (MAX_TOOLS + 1)), ("tools", [{"function": {}}]), ("tools", [{"type": 7}]),
    ("tool_choice", {"type": "function"}), ("tool_choice", {}), ("tool_choice", 7), ("logit_bias", {"1": "x"}), ("logit_bias", {"1": True}),
    ("user", "a\nb"), ("user", "a\x00"), ("metadata", {"a": "b\r\nc"}), ("metadata", {"a\n": "b"}), ("metadata", {"a": 1}),
    ("response_format", {"type": "json_schema"}), ("stream_options", {"include_usage": "yes"}), ("eos_token", ["x"]),
])  # fmt: skip
def test_meaningless_values_are_rejected(param: str, value: Any) -> None:
    error = rejection(**{param: value})
    assert (error.param or "").startswith(param)
    assert len(error.message) < 500


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000])
def test_numbers_out_of_range_are_rejected(number: bytes) -> None:
    body = Body(b'{"messages":[{"role":"user","content":"x"}],"temperature":' + number + b"}")
    with pytest.raises(BadRequest) as error:
        check_parameters(body)
    assert error.value.param == "temperature"
    assert len(error.value.message) < 500


@each("name", sorted(FORBIDDEN_FIELDS))
def test_fields_of_the_configuration_are_rejected(name: str) -> None:
    error = rejection(**{name: "http://169.254.169.254"})
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert "169.254" not in error.message


def test_unknown_fields_are_accepted() -> None:
    check(x_vendor={"a": [1, None]}, reasoning={"effort": "low"}, provider={"order": []})


def test_null_means_absent() -> None:
    check(**dict.fromkeys(CHECKS))


def test_top_logprobs_requires_logprobs() -> None:
    assert rejection(top_logprobs=2).param == "top_logprobs"
    assert rejection(top_logprobs=2, logprobs=False).param == "top_logprobs"
    check(top_logprobs=2, logprobs=True)
    check(top_logprobs=0)


def test_a_body_without_messages_is_rejected() -> None:
    with pytest.raises(BadRequest) as error:
        check_parameters(Body(b'{"model":"m"}'))
    assert (error.value.param, error.value.code) == ("messages", "missing_required_parameter")


@each(("source", "code"), [
    (b"{}", "missing_required_parameter"), (b'{"model":null}', "invalid_type"), (b'{"model":""}', "invalid_type"),
    (b'{"model":["m"]}', "invalid_type"), (b'{"model":1e999}', "invalid_json"),
])  # fmt: skip
def test_a_body_without_a_model_is_rejected(source: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as error:
        read_model(Body(source))
    assert error.value.code == code


def test_the_model_of_a_body_is_read() -> None:
    assert read_model(Body(b'{"model":"\\u0067pt"}')) == "gpt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom"),
        ({"tools": [{"custom": {"name": 5}}]}, "tools[0].custom"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [{"type": 5}]}, "tools[0].type"),
        ({"functions": [{}]}, "functions[0]"),
        ({"functions": [{"name": "f", "parameters": True}]}, "functions[0].parameters"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice.custom"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": 5}}}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [5]}}}, "tool_choice.allowed_tools.tools[0]"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": False}}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": []}}}, "response_format.json_schema.schema"),
    ],
)
def test_malformed_tools_and_schemas_are_rejected(fields: dict[str, Any], param: str) -> None:
    assert rejected_param(**fields) == param


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"function": {"name": "f"}}]},
        {"tools": [{"type": None, "function": {"name": "f", "parameters": None}}]},
        {"tools": [{"custom": {"name": "f"}}]},
        {"tools": [{"type": "web_search"}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": True}}},
    ],
)
def test_tools_without_a_type_or_parameters_are_accepted(fields: dict[str, Any]) -> None:
    assert rejected_param(**fields) is None

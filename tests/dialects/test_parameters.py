"""The caller's parameters: what nobody can mean is a 400 that names the parameter, and everything else is left as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.parameters import CHECKS, FORBIDDEN_FIELDS, MAX_STOP_STRINGS, MAX_TOOLS, check_parameters, read_model
from gateway.errors import BadRequest
from providers.base import Body

USER = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": "m", "messages": [USER]}


def check(**more: Any) -> None:
    """Normalize a good body with these fields."""
    source = json.dumps(GOOD | more).encode()
    body = Body(source)
    check_parameters(body)
    assert body.encode() == source, "nothing may change"


def tried(**more: Any) -> str | None:
    """The parameter that a refusal of these fields names; None when they pass. Any other error is one."""
    try:
        check(**more)
    except BadRequest as error:
        return error.param or ""
    return None


def refused(**more: Any) -> BadRequest:
    """The refusal of a body with these fields."""
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
    "logprobs": {"true"},
    "parallel_tool_calls": {"true"},
    "response_format": set(),
}


@pytest.mark.parametrize("param", sorted(GOOD_TYPES))
@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_field_of_a_wrong_type_is_named(param: str, kind: str) -> None:
    if kind == "null" or kind in GOOD_TYPES[param]:
        check(**{param: TYPES[kind]})
    else:
        error = refused(**{param: TYPES[kind]})
        assert error.status == 400
        assert (error.param or "").split("[")[0].split(".")[0] == param


@given(st.sampled_from(sorted(CHECKS)), st.sampled_from(list(TYPES.values())) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
))  # fmt: skip
def test_no_value_of_any_field_is_more_than_refused(param: str, value: Any) -> None:
    named = tried(**{param: value})
    assert named is None or named.split("[")[0].split(".")[0] == param


@pytest.mark.parametrize(("param", "value"), [
    ("n", 0), ("n", 1_000_000), ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", 10**12), ("n", True),
    ("top_logprobs", 10**9), ("top_logprobs", -1), ("seed", 2**64), ("seed", [1, "x"]), ("stop", ["x"] * (MAX_STOP_STRINGS + 1)),
    ("tools", [{"type": "function", "function": {"name": "f"}}] * (MAX_TOOLS + 1)), ("tools", [{"function": {}}]), ("tools", [{"type": 7}]),
    ("tool_choice", {"type": "function"}), ("tool_choice", {}), ("tool_choice", 7), ("logit_bias", {"1": "x"}), ("logit_bias", {"1": True}),
    ("user", "a\nb"), ("user", "a\x00"), ("metadata", {"a": "b\r\nc"}), ("metadata", {"a\n": "b"}), ("metadata", {"a": 1}),
    ("response_format", {"type": "json_schema"}), ("stream_options", {"include_usage": "yes"}), ("eos_token", ["x"]),
])  # fmt: skip
def test_what_nobody_can_mean_is_refused(param: str, value: Any) -> None:
    error = refused(**{param: value})
    assert (error.param or "").startswith(param)
    assert len(error.message) < 500


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000])
def test_numbers_out_of_all_range_are_refused(number: bytes) -> None:
    body = Body(b'{"messages":[{"role":"user","content":"x"}],"temperature":' + number + b"}")
    with pytest.raises(BadRequest) as error:
        check_parameters(body)
    assert error.value.param == "temperature"
    assert len(error.value.message) < 500


@pytest.mark.parametrize("name", sorted(FORBIDDEN_FIELDS))
def test_fields_that_are_the_operators_are_refused(name: str) -> None:
    error = refused(**{name: "http://169.254.169.254"})
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert "169.254" not in error.message


def test_unknown_fields_pass() -> None:
    check(x_vendor={"a": [1, None]}, reasoning={"effort": "low"}, provider={"order": []})


def test_null_means_absent() -> None:
    check(**dict.fromkeys(CHECKS))


def test_top_logprobs_need_logprobs() -> None:
    assert refused(top_logprobs=2).param == "top_logprobs"
    assert refused(top_logprobs=2, logprobs=False).param == "top_logprobs"
    check(top_logprobs=2, logprobs=True)
    check(top_logprobs=0)


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("messages", [
    [USER],
    [{"role": "developer", "content": "be brief"}, USER],
    [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "http://x"}}]}],
    [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "4"}],
    [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "4"}]}],
    [USER, {"role": "assistant", "refusal": "no"}, USER],
    [USER, {"role": "assistant", "content": "x", "reasoning_content": "hm", "vendor": 1}],
])  # fmt: skip
def test_conversations_that_pass(messages: list[Any]) -> None:
    check(messages=messages)


@pytest.mark.parametrize(("messages", "param"), [
    (None, "messages"),
    ("hi", "messages"),
    ({}, "messages"),
    ([], "messages"),
    ([7], "messages[0]"),
    ([USER, {}], "messages[1].role"),
    ([USER, {"role": 7, "content": "x"}], "messages[1].role"),
    ([{"role": "robot", "content": "x"}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 7}], "messages[0].content"),
    ([{"role": "user", "content": {}}], "messages[0].content"),
    ([{"role": "user", "content": ["x"]}], "messages[0].content"),
    ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": "text", "text": 7}]}], "messages[0].content[0].text"),
    ([{"role": "assistant"}], "messages[0].content"),
    ([{"role": "assistant", "tool_calls": [{"id": 7}]}], "messages[0].tool_calls[0].id"),
    ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].id"),
    ([{"role": "assistant", "tool_calls": "x"}], "messages[0].tool_calls"),
    ([USER, {"role": "tool", "content": "4"}], "messages[1].tool_call_id"),
    ([USER, {"role": "tool", "content": "4", "tool_call_id": "c9"}], "messages[1].role"),
    ([USER] * 10_001, "messages"),
])  # fmt: skip
def test_conversations_that_are_refused_name_the_place(messages: Any, param: str) -> None:
    error = refused(messages=messages)
    assert error.param == param
    assert len(error.message) < 500


def test_a_body_without_messages_says_so() -> None:
    with pytest.raises(BadRequest) as error:
        check_parameters(Body(b'{"model":"m"}'))
    assert (error.value.param, error.value.code) == ("messages", "missing_required_parameter")


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["user", "assistant", "tool"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "id", "type", "text", "tool_call_id"]), inner, max_size=4),
    max_leaves=15,
))  # fmt: skip
def test_no_conversation_is_more_than_refused(messages: Any) -> None:
    named = tried(messages=messages)
    assert named is None or named.startswith("messages")


@pytest.mark.parametrize(("source", "code"), [
    (b"{}", "missing_required_parameter"), (b'{"model":null}', "invalid_type"), (b'{"model":""}', "invalid_type"),
    (b'{"model":["m"]}', "invalid_type"), (b'{"model":1e999}', "invalid_json"),
])  # fmt: skip
def test_a_body_must_name_its_model(source: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as error:
        read_model(Body(source))
    assert error.value.code == code


def test_a_named_model_is_read() -> None:
    assert read_model(Body(b'{"model":"\\u0067pt"}')) == "gpt"

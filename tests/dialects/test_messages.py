"""Checks of `messages`: accepted conversations, and rejections that name the place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.messages import check_messages
from gateway.errors import BadRequest
from tests.support.each import each

USER = {"role": "user", "content": "hi"}


def check(messages: Any) -> None:
    """Check a value of `messages`."""
    check_messages(msgspec.json.encode(messages))


def rejection(messages: Any) -> BadRequest:
    """Return the error for a value of `messages`."""
    with pytest.raises(BadRequest) as error:
        check(messages)
    return error.value


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@each("messages", [
    [USER],
    [{"role": "developer", "content": "be brief"}, USER],
    [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "http://x"}}]}],
    [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "4"}],
    [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "4"}]}],
    [USER, {"role": "assistant", "refusal": "no"}, USER],
    [USER, {"role": "assistant", "content": "x", "reasoning_content": "hm", "vendor": 1}],
])  # fmt: skip
def test_valid_conversations_are_accepted(messages: list[Any]) -> None:
    check(messages)


@each(("messages", "param"), [
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
def test_invalid_conversations_are_rejected_with_the_place(messages: Any, param: str) -> None:
    error = rejection(messages)
    assert error.param == param
    assert len(error.message) < 500


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["user", "assistant", "tool"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "id", "type", "text", "tool_call_id"]), inner, max_size=4),
    max_leaves=15,
))  # fmt: skip
def test_any_conversation_is_accepted_or_rejected(messages: Any) -> None:
    param = "messages"
    try:
        check(messages)
    except BadRequest as error:
        param = error.param or ""
    assert param.startswith("messages")

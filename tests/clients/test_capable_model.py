"""The scripted capable model refuses every request that a real API refuses, and answers as the request requires."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.capable_model import GREETING, RefusedError, check_messages, reply
from tests.support.each import each

USER = {"role": "user", "content": "What is the weather in Rome and add(3, 4)?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "7"}
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = {"type": "function", "function": {"name": "add", "parameters": NUMBERS}}
FORCED = {"type": "function", "function": {"name": "get_weather"}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


def image(url: str) -> dict[str, Any]:
    """Return a message with an image."""
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


@each(
    "messages",
    [
        [USER, RESULT],
        [USER, CALLS, USER],
        [USER, CALLS],
        [{"role": "user", "content": [{"type": "tool_result"}]}],
        [image("data:image/png;base64,AAAA")],
        [image("data:image/png;base64,%%")],
        [image("nothing")],
    ],
)
def test_a_conversation_that_an_api_refuses_is_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RefusedError):
        check_messages(messages)


@each(
    "messages",
    [[USER], [USER, CALLS, RESULT], [image("data:image/png;base64,iVBORw0K")], [image("https://a/b.png")]],
)
def test_a_conversation_that_an_api_accepts_is_accepted(messages: list[dict[str, Any]]) -> None:
    check_messages(messages)


@each(
    ("fields", "called"),
    [
        ({}, []),
        ({"tools": [WEATHER, ADD]}, ["add"]),
        ({"tools": [WEATHER]}, ["get_weather"]),
        ({"tools": [WEATHER, ADD], "tool_choice": "none"}, []),
        ({"tools": [ADD, WEATHER], "tool_choice": FORCED}, ["get_weather"]),
    ],
)
def test_the_tool_that_the_request_names_is_called(fields: dict[str, Any], called: list[str]) -> None:
    message, finish = reply({"messages": [USER], **fields})
    assert [call["function"]["name"] for call in message.get("tool_calls", ())] == called
    assert finish == ("tool_calls" if called else "stop")


def test_arguments_have_the_numbers_of_the_prompt() -> None:
    message, _ = reply({"messages": [USER], "tools": [ADD]})
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"a": 3, "b": 4}


def test_stops_and_limits_cut_the_text() -> None:
    assert reply({"messages": [USER], "stop": ["how"]})[0]["content"] == GREETING.split("how")[0]
    assert reply({"messages": [USER], "max_tokens": 2}) == ({"role": "assistant", "content": "Hello there, "}, "length")

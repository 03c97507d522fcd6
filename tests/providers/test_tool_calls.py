"""`CallStream` and `repair_calls` by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from providers.tool_calls import CallStream, arguments_text, calls_of, is_server_call, repair_calls
from tests.support.each import each


def test_delta_in_openais_form_is_unchanged() -> None:
    stream = CallStream()
    for delta in (
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
    ):
        assert stream.feed([delta]) == [delta]
    assert stream.close() == []


def test_name_in_two_pieces_is_joined_by_the_client() -> None:
    stream = CallStream()
    first = stream.feed([{"index": 0, "id": "c1", "function": {"name": "get_"}}])
    second = stream.feed([{"index": 0, "function": {"name": "weather", "arguments": "{}"}}])
    assert first[0]["function"]["name"] + second[0]["function"]["name"] == "get_weather"


def test_custom_call_keeps_its_input() -> None:
    delta = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "f", "input": "text"}}
    assert CallStream().feed([delta]) == [delta]


@each(("value", "text"), [(None, ""), ("", ""), ({"a": "\u00e4"}, '{"a": "\u00e4"}'), ([1], "[1]")])
def test_arguments_become_json_text(value: Any, text: str) -> None:
    assert arguments_text(value) == text


def test_calls_of_a_json_answer_have_distinct_ids() -> None:
    calls = repair_calls([{"id": "x", "function": {"name": name}} for name in ("f", "g")])
    assert calls[0]["id"] == "x"
    assert calls[1]["id"] not in ("", "x")
    assert [call["function"]["arguments"] for call in calls] == ["{}", "{}"]


def test_call_of_a_server_tool_is_recognised() -> None:
    assert is_server_call({"type": "web_search_call"})
    assert not is_server_call({"type": "function"})


def test_value_that_holds_no_calls_is_an_error() -> None:
    call = {"id": "c1"}
    assert calls_of([call, None]) == [call, None]
    assert calls_of(call) == [call]
    for value in (7, "x", ["x"], [[call]]):
        with pytest.raises(ValueError, match="not a list of objects"):
            calls_of(value)


def test_a_call_that_never_gets_a_name_takes_no_index() -> None:
    stream = CallStream()
    nameless = {"index": 1, "function": {"arguments": "1"}}
    named = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert stream.feed([nameless, named]) == [named]
    assert stream.arguments_of(0) == ["{}"]
    late = {"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "2"}}
    assert stream.feed([late]) == [{**late, "function": {"name": "g", "arguments": "12"}}]
    assert stream.arguments_of(1) == ["1", "2"]


def test_a_second_call_without_id_and_index_is_another_call() -> None:
    first, second = {"id": "c1", "function": {"name": "f"}}, {"function": {"name": "g", "arguments": "{}"}}
    sent = CallStream().feed([first, second])
    assert [(call["index"], call["function"]["name"], call["function"]["arguments"]) for call in sent] == [(0, "f", ""), (1, "g", "{}")]

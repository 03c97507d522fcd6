"""providers.local.min_tokens: both requests, when they stop, and how the answers are combined."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.base import Body
from providers.local.min_tokens import STOPPED, min_tokens_chain
from tests.providers.adapting import adapt


def answer(text: str, finish: str, tokens: int, prompt: int = 10) -> bytes:
    """Return the answer to one request."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": {"content": [text]}, "finish_reason": finish}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def carried_out(body: dict[str, Any], least: int, *answers: bytes, choices: int = 1) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the chain. Return the requests and the combined answer."""
    turns = min_tokens_chain(Body(json.dumps(body).encode()), least, choices)
    requests = [json.loads(next(turns).encode())]
    for answer in answers:
        try:
            requests.append(json.loads(turns.send(answer).encode()))
        except StopIteration as end:
            return requests, json.loads(end.value)
    raise AssertionError("it asks for more")


MESSAGES = [{"role": "user", "content": "hi"}]


def test_first_request_ignores_the_end_and_second_continues() -> None:
    body = {"messages": MESSAGES, "max_tokens": 9, "seed": 1}
    requests, combined = carried_out(body, 4, answer("one", "length", 4), answer(" two", "stop", 2, prompt=14))
    assert requests[0] == {**body, "ignore_eos": True, "max_tokens": 4}
    assert requests[1] == {**body, "messages": [*MESSAGES, {"role": "assistant", "content": "one"}], "max_tokens": 5}
    (choice,) = combined["choices"]
    assert (choice["message"]["content"], choice["finish_reason"], choice["logprobs"]["content"]) == ("one two", "stop", ["one", " two"])
    assert combined["usage"] == {"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16}


def test_stop_string_ends_the_answer_before_the_minimum() -> None:
    requests, combined = carried_out({"messages": MESSAGES}, 4, answer("one", "stop", 2))
    assert (len(requests), combined) == (1, json.loads(answer("one", "stop", 2)))


def test_cap_below_the_minimum_applies() -> None:
    requests, combined = carried_out({"messages": MESSAGES, "max_tokens": 3}, 4, answer("one", "length", 3))
    assert ([item["max_tokens"] for item in requests], combined["choices"][0]["finish_reason"]) == ([3], "length")


def test_each_choice_has_the_minimum_and_its_own_seed() -> None:
    body = {"messages": MESSAGES, "max_tokens": 9, "seed": 5}
    answers = (answer("a", "length", 4), answer("b", "stop", 1), answer("c", "stop", 2))
    requests, combined = carried_out(body, 4, *answers, choices=2)
    assert [request["seed"] for request in requests] == [5, 5, 6]
    assert [(choice["index"], choice["message"]["content"]) for choice in combined["choices"]] == [(0, "ab"), (1, "c")]
    assert combined["usage"] == {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}


TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"}


def test_text_with_tools_is_continued_without_them() -> None:
    body = {"messages": MESSAGES, "max_tokens": 9, **TOOLS}
    answers = (answer("one", "stop", 2), answer(" two", "length", 2), answer(" three", "stop", 1))
    requests, combined = carried_out(body, 4, *answers)
    assert requests[0] == body
    assert requests[1] == {
        "messages": [*MESSAGES, {"role": "assistant", "content": "one"}], "max_tokens": 2, "ignore_eos": True,
    }  # fmt: skip
    assert requests[2] == {"messages": [*MESSAGES, {"role": "assistant", "content": "one two"}], "max_tokens": 5}
    assert combined["choices"][0]["message"]["content"] == "one two three"
    assert combined["usage"]["completion_tokens"] == 5


def test_a_tool_call_is_not_continued() -> None:
    call = json.loads(answer("", "tool_calls", 2))
    call["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}
    requests, combined = carried_out({"messages": MESSAGES, **TOOLS}, 4, json.dumps(call).encode())
    assert (len(requests), combined) == (1, call)


def test_a_text_that_a_stop_string_ended_is_not_continued() -> None:
    ended = json.loads(answer("one", "stop", 2))
    ended["choices"][0][STOPPED] = "X"
    requests, combined = carried_out({"messages": MESSAGES, "stop": ["X"], **TOOLS}, 4, json.dumps(ended).encode())
    assert (requests, combined) == ([{"messages": MESSAGES, **TOOLS}], json.loads(answer("one", "stop", 2)))


def test_a_text_beside_stop_strings_is_continued_with_them() -> None:
    body = {"messages": MESSAGES, "stop": ["X"], **TOOLS}
    answers = (answer("one", "stop", 2), answer(" two", "length", 2), answer(" three", "stop", 1))
    requests, combined = carried_out(body, 4, *answers)
    assert [request.get("stop") for request in requests] == [None, ["X"], ["X"]]
    assert combined["choices"][0]["message"]["content"] == "one two three"


@pytest.mark.parametrize(
    ("more", "action"),
    [
        ({"tools": TOOLS["tools"], "stop": ["X"]}, "enforce_locally"),
        ({"tools": TOOLS["tools"], "tool_choice": "required"}, "drop"),
        ({"response_format": {"type": "json_object"}}, "drop"),
        ({"stop": ["X"], "n": 2}, "enforce_locally"),
    ],
)
def test_a_minimum_is_honoured_or_dropped_with_the_reason(more: dict[str, Any], action: str) -> None:
    adapted = adapt("local", {"min_tokens": 5, **more}, tools=True)
    assert ("min_tokens", action) in adapted.actions()
    assert "min_tokens" not in adapted.sent

"""Receipts and errors name the caller's messages, although rules add, merge and remove messages."""

from __future__ import annotations

from typing import Any

import pytest

from providers.base import Body, Failure, Refusal
from providers.rules.places import Place, callers_failure, callers_param, place_of, places_of, remove_messages
from tests.providers.adapting import adapt
from tests.support.each import each

USER = {"role": "user", "content": "Hi"}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
ANSWER = {"role": "assistant", "content": "yes"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def result(*parts: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r"}, *parts]}


def with_file(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "see"}, *parts, FILE]}


@each("kind", ["cerebras", "cohere", "fireworks", "friendli", "ollama"])
@each(
    ("request_", "expected"),
    [
        ({"messages": [USER, ANSWER, with_file()]}, "messages[2].content[1]"),
        ({"messages": [USER, ANSWER, with_file()], "system_prompt": "Be brief."}, "messages[2].content[1]"),
        (
            {"messages": [{"role": "system", "content": "s"}, ANSWER, with_file()], "system_prompt": "Be brief."},
            "messages[2].content[1]",
        ),
        ({"messages": [USER, CALLING, result(FILE), with_file()]}, "messages[3].content[1]"),
        ({"messages": [USER, CALLING, result(FILE), USER], "system_prompt": "Be brief."}, "messages[2].content"),
    ],
)
def test_file_that_is_left_out_is_named_by_the_callers_message(
    kind: str, request_: dict[str, Any], expected: str
) -> None:
    left_out = [each.param for each in adapt(kind, request_).adjustments if (each.action, each.from_) == ("drop", "file")]
    assert left_out[-1] == expected


def test_empty_message_that_is_left_out_changes_no_other_number() -> None:
    messages = [USER, {"role": "assistant", "content": " "}, USER, CALLING, result(FILE)]
    with pytest.raises(Refusal) as refused:
        adapt("anthropic", {"messages": [*messages[:4], {"role": "tool", "tool_call_id": "c1", "content": [{"type": "odd"}]}]})
    assert str(refused.value.param).startswith("messages[4].content")


def test_refusal_names_the_callers_message() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    with pytest.raises(Refusal) as refused:
        adapt("groq", {"messages": [USER, {"role": "user", "content": [audio]}], "system_prompt": "Be brief."})
    assert refused.value.param == "messages[1].content[0]"
    assert "'messages[1].content[0]'" in str(refused.value)


def test_merged_messages_are_named_by_the_first() -> None:
    adapted = adapt("siati", {"messages": [USER, USER, ANSWER, with_file()], "system_prompt": "Be brief."})
    assert "messages[4]" not in str(adapted.adjustments)


def test_failure_of_the_upstream_names_the_callers_message() -> None:
    body = Body(b'{"messages":[1,2]}')
    failure = Failure("client_error", "Invalid 'messages[1].content[0].text', see messages[0].", 400, param="messages[1].content")
    assert callers_failure(body, failure) is failure
    body.places = [Place("system_prompt", is_exact=False), *places_of(body, [0])]
    named = callers_failure(body, failure)
    assert (named.message, named.param) == ("Invalid 'messages[0].content[0].text', see system_prompt.", "messages[0].content")


def test_name_with_dots_in_a_failure_is_the_callers_too() -> None:
    body = Body(b'{"messages":[1,2,3]}')
    body.places = [Place("documents", is_exact=False), *places_of(body, [0, 1])]
    text = "'messages.1' : for 'role:user' the following must be satisfied[('messages.1.content.0' : value must be a string)]"
    named = callers_failure(body, Failure("client_error", text, 400))
    assert named.message == text.replace("messages.1.content.0", "messages[0].content[0]").replace("messages.1", "messages[0]")
    unquoted = Failure("client_error", "messages.1.content: too long, as in www.messages.1", 400)
    assert callers_failure(body, unquoted).message == unquoted.message


def test_places_of_a_body() -> None:
    body = Body(b'{"messages":[1,2,3,4]}')
    assert callers_param(body, "messages[2].content[1]") == "messages[2].content[1]"
    remove_messages(body, (0, 2))
    assert body.get("messages") == [2, 4]
    assert [callers_param(body, f"messages[{at}].name") for at in (0, 1, 2)] == [
        "messages[1].name", "messages[3].name", "messages[2].name",
    ]  # fmt: skip
    body.places = [Place("documents", is_exact=False), place_of(body, 0)._replace(is_exact=False), *places_of(body, [1])]
    assert callers_param(body, "messages[0].content[3].text") == "documents"
    assert callers_param(body, "messages[1].content[3].text") == "messages[1].content"
    assert callers_param(body.copy(), "messages[1].tool_calls[0].id") == "messages[1].tool_calls[0].id"
    assert callers_param(body, "messages[2].content[3]") == "messages[3].content[3]"
    assert callers_param(body, "messages[].name") == "messages[].name"

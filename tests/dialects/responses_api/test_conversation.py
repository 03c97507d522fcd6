"""Items of `input` become messages; the items of one turn become one assistant message."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import astuple

from gateway.dialects.messages import check_messages
from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.conversation import Conversation
from gateway.dialects.responses_api.request import InexpressibleError, RequestReader
from gateway.dialects.responses_api.values import Raw, encode
from gateway.errors import BadRequest
from tests.dialects.responses_api.grammar import messages, to_chat, translator

CALL = {
    "type": "function_call",
    "call_id": "c1",
    "name": "f",
    "arguments": '{"a":1}',
    "id": "fc_1",
    "status": "completed",
}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "12"}
SAID = {
    "type": "message",
    "role": "assistant",
    "id": "msg_1",
    "status": "completed",
    "content": [{"type": "output_text", "text": "So", "annotations": []}],
}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
USER = {"role": "user", "content": "Hi"}


def test_instructions_precede_the_input() -> None:
    found = to_chat({"input": "Hi", "instructions": "Be kind"})["messages"]
    assert found == [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]


def test_messages_keep_their_roles() -> None:
    items = [{"type": "message", "role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")]
    assert messages(*items) == [{"role": item["role"], "content": "x"} for item in items]


def test_items_of_one_turn_are_one_message() -> None:
    assert messages(USER, THOUGHT, SAID, CALL, OUTPUT) == [
        USER,
        {"role": "assistant", "reasoning_content": "Hm", "content": "So", "tool_calls": [CHAT_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
    ]


def test_text_after_a_call_joins_its_message_because_the_result_must_follow() -> None:
    more = {**SAID, "content": "And"}
    found = messages(USER, SAID, CALL, more, OUTPUT)
    texts = [{"type": "text", "text": "So"}, {"type": "text", "text": "And"}]
    assert found[1] == {"role": "assistant", "content": texts, "tool_calls": [CHAT_CALL]}
    assert [message["role"] for message in found] == ["user", "assistant", "tool"]


def test_parallel_calls_are_one_message_and_later_calls_another() -> None:
    second, result = {**CALL, "call_id": "c2"}, {**OUTPUT, "call_id": "c2"}
    assert [message["role"] for message in messages(USER, CALL, second, OUTPUT, result)] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    assert [message["role"] for message in messages(USER, CALL, OUTPUT, second, result)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]


def test_two_messages_of_the_model_stay_two() -> None:
    assert [message["content"] for message in messages(USER, SAID, SAID)] == ["Hi", "So", "So"]


def test_call_without_text_has_no_content_and_reasoning_alone_an_empty_one() -> None:
    assert messages(USER, CALL, OUTPUT)[1] == {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]}
    assert messages(USER, THOUGHT)[1] == {"role": "assistant", "content": "", "reasoning_content": "Hm"}


def test_custom_call_and_its_result() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"}
    result = {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "a"}]}
    assert messages(custom, result) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "a"}]},
    ]


def test_signature_of_a_provider_returns_with_its_call() -> None:
    extra = {"google": {"thought_signature": "s"}}
    found = messages({**SAID, "extra_content": extra}, {**CALL, "extra_content": extra}, OUTPUT)[0]
    assert found["extra_content"] == extra
    assert found["tool_calls"][0]["extra_content"] == extra


@pytest.mark.parametrize(
    "items",
    [
        [USER, THOUGHT, SAID, CALL, OUTPUT],
        [USER, CALL, SAID, OUTPUT],
        [USER, THOUGHT],
        [USER, SAID, THOUGHT, CALL, OUTPUT],
    ],
)
def test_messages_pass_the_check_of_chat_completions(items: list[dict[str, Any]]) -> None:
    check_messages(encode(messages(*items)))


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 3}, "input[0].content"),
        ({"type": "message", "content": "x"}, "input[0].role"),
        ({"content": "x"}, "input[0].type"),
        ({"type": "item_reference", "id": "x"}, "input[0].type"),
        ({"type": "web_search_call", "id": "x"}, "input[0].type"),
        ({"type": "computer_call_output", "call_id": "x"}, "input[0].type"),
        ({"type": "compaction", "encrypted_content": "x"}, "input[0].type"),
        ({**CALL, "arguments": {}}, "input[0].arguments"),
        ({**CALL, "call_id": None}, "input[0].call_id"),
        ({**CALL, "name": 3}, "input[0].name"),
        ({**CALL, "namespace": 3}, "input[0].namespace"),
        ({**OUTPUT, "output": {}}, "input[0].output"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "n"}, "input[0].input"),
    ],
    ids=str,
)
def test_invalid_item_is_refused_with_its_place(item: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        messages(item)
    assert refused.value.param == param


def test_unsupported_item_is_named() -> None:
    with pytest.raises(BadRequest, match="'web_search_call' is not supported"):
        messages({"type": "web_search_call"})
    with pytest.raises(BadRequest, match="send the item itself"):
        messages({"type": "item_reference", "id": "msg_1"})


def test_phase_of_a_message_is_reported() -> None:
    made = translator(input=[{**SAID, "phase": "commentary"}])
    assert [each.param for each in made.adjustments] == ["input[0].phase"]


def test_every_message_and_call_has_its_place() -> None:
    conversation = Conversation(Changes(strict=False))
    conversation.add_instructions(Raw(b'"x"'))
    conversation.add_input(Raw(encode([USER, THOUGHT, SAID, CALL, {**CALL, "call_id": "c2"}, OUTPUT])))
    assert [astuple(origin) for origin in conversation.origins] == [
        ("instructions", "instructions.content", [], ["instructions"]),
        ("input[0]", "input[0].content", [], ["input[0]"]),
        ("input[1]", "input[2].content", ["input[3]", "input[4]"], ["input[1]", "input[2]", "input[3]", "input[4]"]),
        ("input[5]", "input[5].output", [], ["input[5]"]),
    ]


def test_a_stored_call_of_a_hosted_tool_is_named_by_the_parameter_that_brought_it() -> None:
    earlier = [Raw(b'{"type": "web_search_call", "id": "ws_1", "status": "completed"}')]
    with pytest.raises(InexpressibleError) as refused:
        RequestReader(strict=False, earlier=earlier).read(b'{"model": "m", "input": "more", "previous_response_id": "resp_1"}')
    assert refused.value.param == "previous_response_id"
    assert "'web_search_call', which only OpenAI and Azure can read" in refused.value.message

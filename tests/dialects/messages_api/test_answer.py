"""Chat answers become messages."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.dialects.messages_api.answer import UNREADABLE_INPUT, blocks_of, input_of, translate_answer
from gateway.dialects.messages_api.chat_message import ChatMessage, Choice, stop_of, usage_of
from gateway.dialects.messages_api.citations import text_blocks
from gateway.errors import UpstreamFailed
from providers.anthropic.answers import read_message
from tests.providers.wires import CALL, answer

SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}


def translated(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    """Return the message for a chat answer."""
    source = json.dumps(answer(message, finish, **more)).encode()
    result: dict[str, Any] = json.loads(translate_answer(source, "requested", ("END",)))
    return result


def test_an_answer_becomes_a_message() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
    assert translated({"content": "Hello"}, usage=usage, service_tier="default", gateway={"request_id": "r"}) == {
        "id": "c1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": 2,
            "service_tier": "standard",
        },
        "gateway": {"request_id": "r"},
    }


@pytest.mark.parametrize(
    ("message", "content", "reason"),
    [
        ({"content": None}, [], "end_turn"),
        ({"content": ""}, [], "end_turn"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, [{"type": "text", "text": "ab"}], "end_turn"),
        ({"content": "a", "reasoning_content": "t"},
         [{"type": "thinking", "thinking": "t", "signature": ""}, {"type": "text", "text": "a"}], "end_turn"),
        ({"content": "a", "reasoning": "t"},
         [{"type": "thinking", "thinking": "t", "signature": ""}, {"type": "text", "text": "a"}], "end_turn"),
        ({"content": "a", "reasoning_content": "hm", "thinking_blocks": [SIGNED, HIDDEN]},
         [SIGNED, HIDDEN, {"type": "text", "text": "a"}], "end_turn"),
        ({"content": None, "refusal": "no"}, [{"type": "text", "text": "no"}], "refusal"),
        ({"content": "a", "tool_calls": [CALL]},
         [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Bern"}}],
         "tool_use"),
    ],
)  # fmt: skip
def test_content_becomes_blocks(message: dict[str, Any], content: list[Any], reason: str) -> None:
    result = translated(message)
    assert (result["content"], result["stop_reason"]) == (content, reason)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('"{}"', {}),
        ('""', {}),
        ("null", {}),
        ('" {\\"a\\": 1.0} "', {"a": 1.0}),
        ('{"a":1}', {"a": 1}),
        ('"[1]"', {UNREADABLE_INPUT: "[1]"}),
        ('"{\\"a\\":"', {UNREADABLE_INPUT: '{"a":'}),
    ],
)
def test_arguments_become_an_object(arguments: str, expected: Any) -> None:
    assert json.loads(msgspec.json.encode(input_of(msgspec.Raw(arguments.encode())))) == expected


def test_arguments_keep_their_bytes() -> None:
    source = json.dumps(answer({"tool_calls": [{**CALL, "function": {"name": "f", "arguments": '{"n": 1.10, "b":2}'}}]}, "tool_calls"))
    assert b'"input":{"n": 1.10, "b":2}' in translate_answer(source.encode(), "m", ())


def test_stop_strings_are_named_if_the_upstream_names_them() -> None:
    stop = stop_of(Choice(finish_reason="stop", stop_sequence="END"), ("END",), has_tools=False, refused=False)
    assert (stop.reason, stop.sequence) == ("stop_sequence", "END")


def test_usage_that_is_not_reported_is_zero() -> None:
    assert translated({"content": "a"})["usage"]["output_tokens"] == 0
    assert usage_of(msgspec.Raw(b'{"prompt_tokens":-1}'), None) is None


def test_cited_ranges_become_blocks() -> None:
    def cited(start: int, end: int, name: str) -> dict[str, Any]:
        place = {"start_index": start, "end_index": end, "url": name, "title": "T"}
        return {"type": "url_citation", "url_citation": place}

    blocks = text_blocks("0123456789", [cited(6, 8, "b"), cited(2, 4, "a"), cited(3, 5, "c"), {"type": "file"}])
    texts = [(block["text"], [each["url"] for each in block.get("citations", ())]) for block in blocks]
    assert texts == [("01", []), ("234", ["a", "c"]), ("5", []), ("67", ["b"]), ("89", [])]
    assert blocks[1]["citations"][0]["cited_text"] == "23"


def test_answer_of_anthropic_comes_back_unchanged() -> None:
    citation = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": "D", "start_char_index": 0}
    content = [
        SIGNED,
        HIDDEN,
        {"type": "text", "text": "Yes, "},
        {"type": "text", "text": "it is.", "citations": [citation]},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}},
    ]
    usage = {"input_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 4, "output_tokens": 2}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
               "stop_reason": "tool_use", "stop_sequence": None, "usage": usage}  # fmt: skip
    chat = read_message(json.dumps(message).encode(), 1)
    assert json.loads(translate_answer(chat.body, "m", ())) == message


@pytest.mark.parametrize("source", [b'{"choices":{}}', b'{"choices":[{"message":[]}]}', b"[]", b"{"])
def test_an_answer_of_the_wrong_types_is_an_upstream_error(source: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        translate_answer(source, "m", ())


def test_an_empty_message_has_no_blocks() -> None:
    assert blocks_of(ChatMessage()) == []

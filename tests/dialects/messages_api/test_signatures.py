"""Reasoning that only its provider can read reaches a caller as a signature, and comes back without a changed bit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.messages_api.answer import translate_answer
from gateway.dialects.messages_api.changes import Changes
from gateway.dialects.messages_api.conversation import Conversation
from gateway.dialects.messages_api.native import prepare
from gateway.dialects.messages_api.signatures import details_in, is_own, signature_of
from gateway.dialects.messages_api.stream import MessageStream
from gateway.errors import BadRequest
from providers.base import Body, Refusal
from providers.responses_wire.reasoning import FORMAT, items_of
from tests.dialects.messages_api.grammar import read_message
from tests.support.each import each

VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
DETAILS = st.lists(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), min_size=1, max_size=3)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def detail(number: int, position: int = 0) -> dict[str, Any]:
    """Return an entry as the Responses API of OpenAI makes it."""
    return {
        "type": "reasoning.encrypted", "format": FORMAT, "id": f"rs_{number}", "data": f"gAAAA{number}", "index": number,
        "origin": "oai", "summary": [], "position": position,
    }  # fmt: skip


def as_message(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the message of the Messages API for the message of a chat answer."""
    source = json.dumps({"id": "m", "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]}).encode()
    whole: dict[str, Any] = json.loads(translate_answer(source, "m", ()))
    return whole


def streamed(*deltas: dict[str, Any]) -> dict[str, Any]:
    """Return the message of a stream with these deltas."""
    stream, out = MessageStream("m"), b""
    for delta in deltas:
        out += stream.feed(b"data: " + json.dumps({"id": "m", "choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n")
    return read_message(out + stream.feed(b"data: [DONE]\n\n"))


def sent_back(content: Any) -> dict[str, Any]:
    """Return the message of the chat completion for an assistant's turn."""
    conversation = Conversation(Changes(strict=True))
    turn = msgspec.json.decode(json.dumps({"role": "assistant", "content": content}), type=dict[str, msgspec.Raw])
    conversation.add_turn(turn, 0)
    (message,) = conversation.messages
    result: dict[str, Any] = json.loads(msgspec.json.encode(message))
    return result


@given(DETAILS)
def test_a_signature_holds_any_details(details: list[dict[str, Any]]) -> None:
    block = {"signature": msgspec.Raw(msgspec.json.encode(signature_of(details)))}
    assert [json.loads(bytes(each)) for each in details_in(block, "b")] == details
    assert is_own(block)


@each("text", ["", "Hm."])
def test_reasoning_of_an_answer_comes_back_unchanged(text: str) -> None:
    details = [detail(0), detail(1, 1)]
    message = {"content": None, "reasoning_content": text, "reasoning_details": details, "tool_calls": [CALL]}
    content = as_message(message)["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    assert content[0]["thinking"] == text
    back = sent_back(content)
    assert back["reasoning_details"] == details
    assert back.get("reasoning_content", "") == text
    assert "thinking_blocks" not in back
    assert [item["id"] for _, item in items_of(back["reasoning_details"], "oai")] == ["rs_0", "rs_1"]


def test_reasoning_of_a_stream_comes_back_unchanged() -> None:
    pieces = [{"index": 0, "function": {"arguments": part}} for part in ("{", "}")]
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    text = [{"reasoning_content": "H"}, {"reasoning_content": "m"}, {"reasoning_details": [detail(0)]}]
    calls = [{"tool_calls": [each]} for each in (first, *pieces)]
    content = streamed(*text, {"content": "So"}, *calls, {"reasoning_details": [detail(1, 2)]})["content"]
    assert [block["type"] for block in content] == ["thinking", "text", "tool_use", "thinking"]
    assert (content[0]["thinking"], content[3]["thinking"]) == ("Hm", "")
    back = sent_back(content)
    assert back["reasoning_details"] == [detail(0), detail(1, 2)]
    assert (back["reasoning_content"], back["content"]) == ("Hm", "So")
    only = streamed({"reasoning_details": [detail(0)]}, *calls)["content"]
    assert [block["type"] for block in only] == ["thinking", "tool_use"]
    assert sent_back(only)["reasoning_details"] == [detail(0)]


def test_pieces_of_one_detail_are_one_signature() -> None:
    pieces = [{"type": "reasoning.text", "index": 0, "text": part} for part in ("I ", "think")]
    deltas = [{"reasoning": part["text"], "reasoning_details": [part]} for part in pieces]
    last = {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "sig"}]}
    content = streamed(*deltas, last, {"content": "Yes."})["content"]
    assert [block["type"] for block in content] == ["thinking", "text"]
    whole = {"type": "reasoning.text", "index": 0, "text": "I think", "signature": "sig"}
    assert sent_back(content)["reasoning_details"] == [whole]


def test_signatures_of_anthropic_stay_blocks() -> None:
    signed = {"type": "thinking", "thinking": "Hm", "signature": "EqQB"}
    own = {"type": "thinking", "thinking": "So", "signature": signature_of([detail(0)])}
    back = sent_back([signed, own, {"type": "text", "text": "x"}])
    assert (back["thinking_blocks"], back["reasoning_details"], back["reasoning_content"]) == ([signed], [detail(0)], "HmSo")


@each("signature", ["lockgate.1.%%", "lockgate.1.e30", "lockgate.1.W10=", "lockgate.1.eyJyZWFzb25pbmdfZGV0YWlscyI6MX0="])
def test_a_changed_signature_is_refused_by_name(signature: str) -> None:
    with pytest.raises(BadRequest) as caught:
        sent_back([{"type": "thinking", "thinking": "", "signature": signature}])
    assert caught.value.param == "messages[0].content[0].signature"


def test_anthropic_gets_only_its_own_thinking() -> None:
    own = {"type": "thinking", "thinking": "Hm", "signature": signature_of([detail(0)])}
    empty = {"type": "thinking", "thinking": "Hm", "signature": ""}
    signed = {"type": "thinking", "thinking": "Hm", "signature": "EqQB"}
    text = {"type": "text", "text": '"signature":""'}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [signed, own, empty, text]},
        {"role": "assistant", "content": [own]},
        {"role": "user", "content": [text]},
    ]
    for indent in (None, 1):
        body = Body(json.dumps({"messages": turns}, indent=indent).encode())
        made = prepare(body, None, False)
        places = ["messages[1].content[1]", "messages[1].content[2]", "messages[2].content[0]"]
        assert [(each.param, each.action) for each in made] == [(place, "drop") for place in places]
        assert body.get("messages") == [turns[0], {"role": "assistant", "content": [signed, text]}, turns[3]]
        with pytest.raises(Refusal, match=r"messages\[1\]\.content\[1\]"):
            prepare(Body(json.dumps({"messages": turns}, indent=indent).encode()), None, True)
    source = json.dumps({"messages": [turns[0], {"role": "assistant", "content": [signed, text]}]}).encode()
    body = Body(source)
    assert prepare(body, None, True) == []
    assert body.encode() == source

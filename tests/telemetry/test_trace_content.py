"""Prompt and answer as span attributes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.call import Call
from gateway.http.json_body import parse_body
from gateway.telemetry.trace_content import MAX_CONTENT_BYTES, CapturedAnswer


async def captured(*pieces: bytes, status: int = 200, body: bytes = b'{"model": "m"}') -> dict[str, Any]:
    """Send a response in pieces through a capturing `send` and return the attributes of its call."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    answer = CapturedAnswer()
    capturing_send = answer.wrap_send(send)
    for piece in pieces:
        await capturing_send({"type": "http.response.body", "body": piece})
    assert [message["body"] for message in sent] == list(pieces)
    call = Call("chat", "/v1/chat/completions")
    call.status, call.body = status, parse_body(body)
    return answer.attributes(call)


async def test_stream_events_are_joined_by_choice_with_their_finish_reasons() -> None:
    events = [
        b'data: {"choices": [{"index": 1, "delta": {"content": "b"}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "a1"}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "a2"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
    ]
    messages = json.loads((await captured(*events))["gen_ai.output.messages"])
    assert [(each["parts"][0]["content"], each["finish_reason"]) for each in messages] == [("a1a2", "stop"), ("b", "")]


async def test_prompt_has_the_text_parts_of_each_message() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    content = [{"type": "text", "text": "look"}, image]
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    prompt = json.loads((await captured(b"{}", body=body))["gen_ai.input.messages"])
    assert prompt == [{"role": "user", "parts": [{"type": "text", "content": "look"}]}]


@pytest.mark.parametrize("piece", [b"", b"x" * (2 * MAX_CONTENT_BYTES), b'{"choices": [{"message": {"content": "cut'])
async def test_unreadable_answer_has_no_attribute(piece: bytes) -> None:
    assert (await captured(piece))["gen_ai.output.messages"] is None


async def test_answer_of_a_failed_call_is_not_captured() -> None:
    answer = b'{"choices": [{"message": {"content": "secret"}}]}'
    assert (await captured(answer, status=502))["gen_ai.output.messages"] is None

"""The package anthropic with the address of the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, run_program
from tests.clients.conftest import KEY, Front
from tests.faults.behaviours import WORDS, canned, chat_chunk, sse, status
from tests.faults.upstream_server import Script
from tests.faults.upstream_wire import FIN, Exchange

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
ARGUMENTS = '{"city": "Bern"}'
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 4}}
WEATHER = ["tool_use", "get_weather", {"city": "Bern"}]


async def call_tool(exchange: Exchange) -> None:
    """Answer with a text and a tool call, streamed in pieces if requested."""
    if exchange.request.json.get("stream"):
        first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
        pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (ARGUMENTS[:5], ARGUMENTS[5:])]
        chunks = [chat_chunk(tool_calls=[piece]) for piece in (first, *pieces)]
        await sse(chat_chunk("Sure."), *chunks, chat_chunk(finish="tool_calls"), b"[DONE]")(exchange)
        return
    message = {"role": "assistant", "content": "Sure.", "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    await canned(json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode())(exchange)


def script(front: Front, text: bytes, answer: Script) -> None:
    """Make the upstream send `answer` to requests that contain `text`."""
    front.upstream.on(lambda request: text in request.body, answer)


@pytest.mark.parametrize("under", ["", "/anthropic"])
def test_the_package_makes_every_kind_of_call(front: Front, under: str) -> None:
    script(front, b"use the tool", call_tool)
    script(front, b"sunny", canned(json.dumps({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]}).encode()))
    last = {**chat_chunk(), "choices": [], "usage": USAGE}
    thinking = (chat_chunk(reasoning_content="hm"), chat_chunk("Yes."), chat_chunk(finish="stop"), last, b"[DONE]")
    script(front, b"think first", sse(*thinking))
    script(front, b"fail with 429", status(429))
    script(front, b"fail with 503", status(503))
    script(front, b"break the stream", sse(*WORDS, ending=FIN))
    environment = {"ORIGIN": front.gateway.url, "UNDER": under, "API_KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": "/"}
    result: dict[str, Any] = run_program("anthropic_messages.py", MAIN_BIN / "python", environment)
    words = "w0 w1 w2 w3 "
    assert result["answer"] == ["Message", words, "end_turn", 4, "req_"]
    assert result["stream"] == [4, words, "end_turn", 2, 4]
    deltas = ["content_block_delta"] * 4
    assert result["events"] == ["message_start", "content_block_start", *deltas, "content_block_stop", "message_delta", "message_stop"]
    assert (result["stopped"], result["cut"]) == ("w2", "max_tokens")
    assert result["tool"] == result["streamed_tool"] == ["tool_use", ["text", None, None], WEATHER]
    assert (result["after_tool"], result["image"][:2]) == ("text", "w0")
    assert result["thinking"] == ["thinking", "hm", "Yes."]
    assert result["usage"] == [5, 4, 5]
    assert result["count"] > 5
    assert set(result["models"]) == {"chat", "other", "ends-early", "limited-for-seconds", "limited-for-an-hour"}
    assert result["model"] == "model"
    assert (result["beta"], result["bearer"]) == ("w0 w1 ", "assistant")
    assert result["unknown_key"] == ["AuthenticationError", "authentication_error", True]
    assert result["unknown_model"] == ["NotFoundError", "not_found_error", True]
    assert result["bad_value"] == ["BadRequestError", "invalid_request_error", True]
    assert result["rate_limit"] == ["RateLimitError", "rate_limit_error", True]
    assert result["overloaded"][1:] == ["overloaded_error", True]
    assert result["broken"][1] in ("api_error", "timeout_error")
    assert result["before_abort"] == "message_start"
    sent = [request.json for request in front.upstream.requests if b"sunny" in request.body]
    assert [message["role"] for message in sent[-1]["messages"]] == ["user", "assistant", "tool", "user"]

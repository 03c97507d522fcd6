"""Requests reach the upstream, and answers reach the caller, without lost or added fields, and byte for byte if necessary."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.clients.conftest import CREDENTIAL, HELLO, Front
from tests.faults.upstream_server import Exchange, canned
from tests.support.plain_http import WITHOUT_AUTHORITIES

SCHEMA = (
    '{"type":"json_schema","json_schema":{"name":"z","schema":{"type":"object","properties":{"zulu":{"type":"string"},'
    '"alpha":{"type":"integer","maximum":9007199254740993},"mike":{"type":"number"}},"required":["zulu","alpha"]}}}'
)
RICH_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-rich",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "mock-2026-01-01",
    "system_fingerprint": "fp_44709d6fcb",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "content": "Paris",
                "reasoning_content": "The capital of France.",
                "refusal": None,
                "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.org", "start_index": 0}}],
            },
            "logprobs": {"content": [{"token": "Paris", "logprob": -0.0012, "bytes": [80], "top_logprobs": []}], "refusal": None},
            "content_filter_results": {"hate": {"filtered": False}},
        }
    ],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "total_tokens": 46,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 30, "accepted_prediction_tokens": 0},
    },
    "a_future_field": {"nested": [1, 2.5, None]},
}


def test_the_upstream_request_has_exactly_the_fields_of_the_call(client: openai.OpenAI, front: Front) -> None:
    client.chat.completions.create(model="chat", messages=HELLO)
    sent = front.upstream.requests[0].json
    assert sent == {"model": "mock", "messages": HELLO}


def test_a_stream_adds_only_include_usage(client: openai.OpenAI, front: Front) -> None:
    list(client.chat.completions.create(model="chat", messages=HELLO, stream=True, temperature=0.3))
    sent = front.upstream.requests[0].json
    assert sent == {"model": "mock", "messages": HELLO, "stream": True, "temperature": 0.3, "stream_options": {"include_usage": True}}


def test_unknown_parameters_are_forwarded_or_reported(client: openai.OpenAI, front: Front) -> None:
    extra = {"top_a": 0.3, "provider_options": {"b": [1, 2], "a": None}}
    answer = client.chat.completions.with_raw_response.create(model="chat", messages=HELLO, extra_body=extra)
    sent = front.upstream.requests[0].json
    for name, value in extra.items():
        assert sent.get(name) == value or f'"{name}"' in answer.headers["x-gateway-adjusted"]


@pytest.mark.parametrize("number", ["9007199254740993", "9223372036854775807", "0.1000000000000000055511151231257827", "1E-7"])
def test_numbers_keep_every_digit(front: Front, number: str) -> None:
    body = f'{{"model": "chat", "messages": [{{"role": "user", "content": "hello"}}], "provider_options": {{"n": {number}}}}}'
    response = post_bytes(front, body.encode())
    assert response.status_code == 200, response.text
    assert f'"n": {number}'.encode() in front.upstream.requests[0].body


def test_a_64_bit_seed_is_forwarded_exactly(client: openai.OpenAI, front: Front) -> None:
    client.chat.completions.create(model="chat", messages=HELLO, seed=9007199254740993)
    assert front.upstream.requests[0].json["seed"] == 9007199254740993


def test_a_json_schema_is_forwarded_byte_for_byte(front: Front) -> None:
    body = f'{{"model":"chat","response_format":{SCHEMA},"messages":[{{"role":"user","content":"hello"}}]}}'
    assert post_bytes(front, body.encode()).status_code == 200
    assert SCHEMA.encode() in front.upstream.requests[0].body


def test_message_text_is_forwarded_byte_for_byte(front: Front) -> None:
    text = 'h\\u00e9llo \\ud83d\\ude00 \\u2028 \\/ "quoted" '.replace('"', '\\"') + "héllo 😀"
    body = f'{{"model":"chat","messages":[{{"role":"user","content":"{text}"}}]}}'
    assert post_bytes(front, body.encode()).status_code == 200
    assert text.encode() in front.upstream.requests[0].body


def test_cookies_and_private_headers_are_not_forwarded(client: openai.OpenAI, front: Front) -> None:
    private = {"cookie": "session=private", "x-private": "secret-7", "x-forwarded-for": "203.0.113.9", "openai-organization": "org-mine"}
    client.chat.completions.create(model="chat", messages=HELLO, extra_headers=private)
    request = front.upstream.requests[0]
    for value in private.values():
        assert value not in request.head.decode("latin-1")
    assert "x-stainless" not in request.head.decode("latin-1").lower()
    assert request.header("authorization") == f"Bearer {CREDENTIAL}"
    assert (request.header("content-type") or "").startswith("application/json")


def test_an_answer_keeps_every_field(front: Front) -> None:
    front.upstream.on("/v1/chat/completions", canned(json.dumps(RICH_ANSWER).encode()))
    answer = front.post({"model": "chat", "messages": HELLO})
    assert answer.status_code == 200
    assert {**answer.json(), "model": None} == {**RICH_ANSWER, "model": None}


def test_the_openai_package_parses_the_details_of_an_answer(client: openai.OpenAI, front: Front) -> None:
    front.upstream.on("/v1/chat/completions", canned(json.dumps(RICH_ANSWER).encode()))
    answer = client.chat.completions.create(model="chat", messages=HELLO, logprobs=True)
    message = answer.choices[0].message
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"] == "The capital of France."
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 30
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert answer.choices[0].logprobs.content[0].logprob == -0.0012
    assert answer.system_fingerprint == "fp_44709d6fcb"


def test_a_stream_keeps_every_field(front: Front) -> None:
    head = {"id": "chatcmpl-rich", "object": "chat.completion.chunk", "created": 1, "model": "mock", "system_fingerprint": "fp_1"}
    choice = {"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}, "logprobs": None, "finish_reason": None, "new": 1}
    events = [
        {**head, "choices": [choice], "obfuscation": "x7"},
        {**head, "choices": [{**choice, "delta": {"content": "Paris", "annotations": []}}]},
        {**head, "choices": [{**choice, "delta": {}, "finish_reason": "stop"}]},
    ]

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in events:
            await exchange.event(event)
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    front.upstream.on("/v1/chat/completions", script)
    text = front.post({"model": "chat", "messages": HELLO, "stream": True}).text
    data = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert data.pop() == "[DONE]"
    assert [{**json.loads(line), "model": "mock"} for line in data] == events


def test_tools_and_tool_calls_pass_unchanged(client: openai.OpenAI, front: Front) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {**RICH_ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    front.upstream.on("/v1/chat/completions", canned(json.dumps(answer).encode()))
    tool: Any = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    answer_read = client.chat.completions.create(model="chat", messages=HELLO, tools=[tool], tool_choice="required")
    assert front.upstream.requests[0].json["tools"] == [tool]
    assert front.upstream.requests[0].json["tool_choice"] == "required"
    assert answer_read.choices[0].finish_reason == "tool_calls"
    assert answer_read.choices[0].message.tool_calls is not None
    assert answer_read.choices[0].message.tool_calls[0].model_dump(include={"id", "type", "function"}) == call


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"chat", "other", "ends-early"} <= set(listed)
    assert listed["chat"].object == "model"
    assert client.models.retrieve("chat").id == "chat"


def post_bytes(front: Front, body: bytes) -> httpx.Response:
    """Make a chat call with exactly these bytes."""
    url = front.gateway.base_url + "/chat/completions"
    return httpx.post(url, verify=WITHOUT_AUTHORITIES, content=body, headers=front.headers(), timeout=30, trust_env=False)

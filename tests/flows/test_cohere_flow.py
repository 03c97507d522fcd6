"""Calls of Cohere's chat API over HTTP: answers, streams, receipts and errors have its format."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from tests.dialects.cohere_api.grammar import read_stream
from tests.faults.behaviours import broken_by, chat_chunk
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, one_model, serving
from tests.flows.live import Live, live
from tests.flows.operator import digest

KEY = "lg-a-0123456789abcdef"
TEXT = "w0 w1 w2 w3 w4 "


async def send(client: httpx.AsyncClient, gateway: Live, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Make one call as Cohere's client does."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}
    return await client.post(f"{gateway.url}/v2/chat", json=body, headers=headers)


def read(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """Return the answer in a stream or in a JSON response."""
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = read_stream(answer.content) if stream else answer.json()
    return result


@pytest.mark.parametrize("stream", [False, True])
async def test_call_is_answered_with_usage_and_receipt(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        answer = await send(client, gateway, RECEIPT, stream=stream, k=5, thinking={"type": "disabled"})
        records = await gateway.records(1)
    result = read(answer, stream=stream)
    assert result["message"]["content"] == [{"type": "text", "text": TEXT}]
    assert result["finish_reason"] == "COMPLETE"
    assert result["usage"]["tokens"]["output_tokens"] == records[0]["output_tokens"]
    assert result["gateway"]["attempts"][0]["outcome"] == "ok"
    assert json.loads(up.requests[0].body)["top_k"] == 5


async def test_stop_sequences_hold(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for stream in (False, True):
            result = read(await send(client, gateway, stream=stream, stop_sequences=["w2"]), stream=stream)
            assert result["message"]["content"][0]["text"] == "w0 w1 "
            assert result["finish_reason"] == "STOP_SEQUENCE"


async def test_next_target_answers_and_a_broken_stream_ends_with_an_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = f"""
providers:
  down: {{ type: openai-compatible, base_url: "http://127.0.0.1:{free_port()}/v1", api_key: "${{UP_KEY}}" }}
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: [down/mock, up/mock] }}
"""
    async with live(text, environ={"UP_KEY": "k"}) as gateway:
        assert read(await send(client, gateway, stream=True), stream=True)["finish_reason"] == "COMPLETE"
        up.on("/v1/chat/completions", broken_by(before=(chat_chunk("some"),)))
        broken = read(await send(client, gateway, stream=True), stream=True)
    assert broken["finish_reason"] == "ERROR"
    assert broken["error"]


async def test_errors_have_cohere_s_form(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = one_model(up, f"keys:\n  a: {{ hash: '{digest(KEY)}', limits: {{ requests: 1/h }} }}\n")
    given = {"authorization": f"Bearer {KEY}"}
    async with live(text, environ={"UP_KEY": "k"}) as gateway:
        answers = [
            await send(client, gateway),
            await send(client, gateway, given, k="many"),
            await send(client, gateway, given),
            await send(client, gateway, given),
            await send(client, gateway, given, model="unknown"),
        ]
    assert [answer.status_code for answer in answers] == [401, 400, 200, 429, 404]
    for answer in answers:
        assert answer.status_code == 200 or answer.json().keys() == {"id", "message"}
    assert "'k'" in answers[1].json()["message"]


INVALID: tuple[tuple[dict[str, Any], str], ...] = (
    ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ({"tool_choice": ["NONE"]}, "tool_choice"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"role": "assistant", "tool_plan": 5}]}, "tool_plan"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "role"),
    ({"messages": [{"role": "tool", "tool_call_id": "c", "content": [{"type": "document"}]}]}, "messages[0]"),
    ({"thinking": {"type": ["enabled"]}}, "thinking"),
    ({"strict_tools": True, "tools": ["x"]}, "tools"),
    ({"stop_sequences": "x" * 3, "p": "high"}, "p"),
    ({"response_format": {"type": "json_object", "json_schema": 5}}, "response_format"),
    ({"documents": {"a": 1}}, "documents"),
    ({"stream": "yes"}, "stream"),
)


async def test_invalid_values_are_refused_by_name(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for given, name in INVALID:
            for strict in ("true", "false"):
                answer = await send(client, gateway, {"x-gateway-strict": strict}, **given)
                assert answer.status_code == 400, (given, answer.text)
                assert name in answer.json()["message"], (given, answer.text)
        for body in (b"", b"[]", b"{", b'"x"', b"null", b'{"model": "m", "messages": [], "messages": []}'):
            answer = await client.post(f"{gateway.url}/v2/chat", content=body)
            assert (answer.status_code, answer.json().keys()) == (400, {"id", "message"}), body
    assert up.requests == []


async def test_receipts_count_the_messages_of_the_caller(client: httpx.AsyncClient) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    asked += [{"role": "developer", "content": "Answer."}, {"role": "user", "content": "go"}]
    said = {"messages": [{**message, "weight": 1} for message in asked]}
    async with FaultUpstream() as up:
        text = f"providers:\n  mistral: {{ base_url: '{up.base_url}', api_key: '${{K}}' }}\nmodels: {{ m: mistral/x }}\n"
        async with live(text, environ={"K": "k"}) as gateway:
            told = []
            for documents in ({}, {"documents": ["a"]}):
                answer = await send(client, gateway, RECEIPT, **said, **documents)
                assert answer.status_code == 200, answer.text
                adjustments = [(each["param"], each["action"]) for each in answer.json()["gateway"]["adjustments"]]
                told.append([each for each in adjustments if each[0] != "documents"])
    assert len(up.requests[1].json["messages"]) == 5
    assert told[0] == told[1]
    assert any(param.startswith("messages[") for param, _ in told[0])

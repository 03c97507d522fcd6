"""Requests and responses are forwarded byte for byte, with fields that are unknown to the gateway."""

from __future__ import annotations

import json

import httpx

from tests.faults.behaviours import canned, sse
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, events, post_chat, serving
from tests.flows.live import live


async def test_unchanged_request_is_forwarded_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    source = (  # JSON that no encoder of the gateway would write
        '{ "messages" : [ {"content":"h\\u00e9 \U0001f600","role":"user"} ],\n\t"temperature":0.70, '
        '"x_vendor" : {"b":1.50,"a":[]},"model":"mock" }'
    ).encode()
    async with live(f"providers:\n  up: {{type: openai-compatible, base_url: '{up.base_url}'}}\nmodels:\n  mock: up/mock\n") as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", content=source, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert up.requests[0].body == source
    assert "x-gateway-adjusted" not in answer.headers


async def test_changing_one_field_keeps_the_bytes_of_the_others(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    source = b'{"x_vendor": {"z":1.50, "a" : [ ]},"model":"m","messages":[{"role":"user","content":"\\u0068i"}], "temperature":0.70}'
    async with serving(up) as gateway:
        await client.post(gateway.base_url + "/chat/completions", content=source)
    sent = up.requests[0].body
    for kept in (b'{"z":1.50, "a" : [ ]}', b'[{"role":"user","content":"\\u0068i"}]', b"0.70"):
        assert kept in sent
    assert list(json.loads(sent)) == ["x_vendor", "model", "messages", "temperature"]
    assert json.loads(sent)["model"] == "mock"


async def test_response_with_unknown_fields_is_returned_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    body = (
        b'{"id":"x", "object":"chat.completion","created":1,"model":"mock","system_fingerprint":"fp_1",'
        b'"service_tier":"flex","new_field":[1.0],'
        b'"choices":[{"index":0,"message":{"role":"assistant","content":"hi","reasoning_content":"hm","annotations":[{"type":"url_citation"}],'
        b'"refusal":null},"logprobs":null,"finish_reason":"stop","native_finish_reason":"eos"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"cost":0.01}}'
    )
    up.on("/v1/chat/completions", canned(body))
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway)
    assert answer.content == body


async def test_stream_chunks_with_unknown_fields_are_returned_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    def encode(delta: str, finish: str = "null") -> bytes:
        return (
            '{"id":"c","object":"chat.completion.chunk","created":1,"model":"mock","system_fingerprint":"fp","obfuscation":"xY",'
            f'"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish},"token_ids":[7]}}]}}'
        ).encode()

    chunks = [
        encode('{"role":"assistant","content":""}'),
        encode('{"reasoning_content":"hm"}'),
        encode('{"content":"h\u2028i"}'),
        encode("{}", '"stop"'),
    ]
    up.on("/v1/chat/completions", sse(*chunks, b"[DONE]"))
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, stream=True)
    assert answer.content == b"".join(b"data: " + chunk + b"\n\n" for chunk in [*chunks, b"[DONE]"])
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


async def test_stream_usage_is_requested_upstream_and_hidden_unless_the_caller_requests_it(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, text="one two three", stream=True)
        record = (await gateway.records(1))[0]
    assert up.requests[0].json["stream_options"]["include_usage"] is True
    assert "usage" not in answer.text
    assert events(answer.text)[-1] == "[DONE]"
    assert (record["prompt_tokens"], record["output_tokens"]) == (3, 5)
    assert "estimated" not in record


async def test_requested_stream_usage_is_the_last_chunk(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        body = chat(text="one two three", stream=True, stream_options={"include_usage": True})
        answer = await client.post(gateway.base_url + "/chat/completions", json=body)
    *_, last, done = events(answer.text)
    assert done == "[DONE]"
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


async def test_missing_usage_is_estimated_and_flagged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.usage = False
    async with serving(up) as gateway:
        await post_chat(client, gateway, stream=True)
        answer = await post_chat(client, gateway, text="#chunks=40#")
        streamed, plain = await gateway.records(2)
    assert "usage" not in answer.json()
    assert streamed["estimated"] is plain["estimated"] is True
    assert 5 <= streamed["output_tokens"] <= 10
    assert 20 <= plain["output_tokens"] <= 100


async def test_private_headers_are_forwarded_in_neither_direction(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    reply = {"set-cookie": "a=b", "x-request-id": "up-1", "x-ratelimit-remaining-requests": "9", "server": "secret", "x-internal": "no"}
    body = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'
    up.on("/v1/chat/completions", canned(body, headers=reply))
    private = {
        "cookie": "session=1",
        "authorization": "Bearer mine",
        "x-forwarded-for": "9.9.9.9",
        "x-private": "p",
        "openai-organization": "o",
    }
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, headers=private)
    head = up.requests[0].head.decode()
    assert not [value for value in ("session=1", "mine", "9.9.9.9", "x-private") if value in head]
    assert up.requests[0].header("authorization") == f"Bearer {CREDENTIAL}"
    assert not {"set-cookie", "server", "x-internal"} & set(answer.headers)
    assert answer.headers["x-upstream-request-id"] == "up-1"
    assert answer.headers["x-upstream-ratelimit-remaining-requests"] == "9"
    assert answer.headers["x-request-id"].startswith("req_")

"""Stops through the whole gateway: the text ends before the stop whatever the provider does, and the upstream is left at once."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import chat, events, serving

RECEIPT = {"x-gateway-receipt": "body"}
Answer = tuple[str, str, dict[str, Any]]


async def ask(client: httpx.AsyncClient, url: str, *, stream: bool, **more: Any) -> Answer:
    """Text, finish reason and receipt of the only choice."""
    answer = await client.post(url + "/chat/completions", json=chat(stream=stream, **more), headers=RECEIPT)
    assert answer.status_code == 200, answer.text
    if not stream:
        body = answer.json()
        return body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"], body["gateway"]
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    decoded = [json.loads(one) for one in chunks]
    choices = [choice for one in decoded for choice in one["choices"]]
    return "".join(one["delta"].get("content", "") for one in choices), choices[-1]["finish_reason"], decoded[-1]["gateway"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_that_the_provider_left_in_is_trimmed_and_told(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop="w2 w3")
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 ", "stop", "w2 w3")
    assert up.requests[0].json["stop"] == "w2 w3"


@pytest.mark.parametrize("stream", [False, True])
async def test_text_without_the_stop_is_whole(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop=["w4 w5", "x"])
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2 w3 w4 ", "stop", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_stops_over_the_providers_maximum_are_enforced_here(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    stops = ["a1", "a2", "a3", "a4", "w3"]
    async with serving(up, kind="openai") as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop=stops)
        strict = await client.post(gateway.base_url + "/chat/completions", json=chat(stop=stops), headers={"x-gateway-strict": "true"})
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2 ", "stop", "w3")
    assert {"param": "stop", "action": "enforce_locally"}.items() <= next(
        one for one in receipt["adjustments"] if one["param"] == "stop"
    ).items()
    assert up.requests[0].json["stop"] == stops[:4]
    assert (strict.status_code, strict.json()["error"]["param"], len(up.requests)) == (400, "stop", 1)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_that_the_provider_left_out_and_named_is_told(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool, n: int
) -> None:
    choice = {"index": 0, "finish_reason": "stop", "stop_reason": "END"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock", "usage": usage}
    chunk = {**whole, "object": "chat.completion.chunk", "choices": [{**choice, "delta": {"role": "assistant", "content": "w0"}}]}
    message = {"role": "assistant", "content": "w0"}
    answer = json.dumps({**whole, "choices": [{**choice, "message": message}]}).encode()
    up.on("/v1/chat/completions", sse(chunk, b"[DONE]") if stream else canned(answer))
    async with serving(up, kind="vllm") as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop=["x", "END"], n=n, seed=list(range(n)))
    assert (finish, receipt["stop_matched"]) == ("stop", "END")
    assert text == ("w0" * n if stream else "w0")


async def test_the_upstream_is_left_when_a_stop_matches(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 100_000, 0.002
    async with serving(up) as gateway:
        text, finish, _ = await ask(client, gateway.base_url, stream=True, stop="w5")
        await up.wait_for(lambda up: up.requests[0].left is not None)
        (record,) = await gateway.records(1)
    assert (text, finish) == ("w0 w1 w2 w3 w4 ", "stop")
    assert up.requests[0].tokens < 10_000
    assert (record["status"], record["stream_end"], record["finish"]) == (200, "ok", ["stop"])


@pytest.mark.parametrize("kind", ["openai-compatible", "openai", "vllm"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_stays_in_the_text_when_asked_for(up: FaultUpstream, client: httpx.AsyncClient, stream: bool, kind: str) -> None:
    async with serving(up, kind=kind) as gateway:
        asked = {"stop": ["w2"], "include_stop_str_in_output": True}
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, **asked)
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2", "stop", "w2")
    assert not {"stop", "include_stop_str_in_output"} & set(up.requests[0].json), "an upstream would end the text before the stop"


async def test_every_choice_of_a_stream_ends_at_its_own_stop(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(stream=True, stop="w3", n=3))
    texts = {0: "", 1: "", 2: ""}
    for event in events(answer.text)[:-1]:
        for choice in json.loads(event)["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == dict.fromkeys(range(3), "w0 w1 w2 ")


async def test_an_answer_without_stops_keeps_its_bytes(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    odd = b'{"id":"c",  "object":"chat.completion","choices":[{"index":0,"message":{"content":"ab"},"finish_reason":"stop"}]}'
    up.on("/v1/chat/completions", canned(odd))
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat())
        stopped = await client.post(gateway.base_url + "/chat/completions", json=chat(stop="zz"))
    assert answer.content == stopped.content == odd

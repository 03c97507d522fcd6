"""Stop sequences: the text ends before the stop sequence for every provider, and the upstream stream is aborted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import RECEIPT, chat, events, post_chat, serving

Answer = tuple[str, str, dict[str, Any]]


async def ask(client: httpx.AsyncClient, url: str, *, stream: bool, **more: Any) -> Answer:
    """Send one call. Return text, finish reason and receipt."""
    answer = await client.post(url + "/chat/completions", json=chat(stream=stream, **more), headers=RECEIPT)
    assert answer.status_code == 200, answer.text
    if not stream:
        body = answer.json()
        return body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"], body["gateway"]
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    decoded = [json.loads(chunk) for chunk in chunks]
    choices = [choice for chunk in decoded for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices), choices[-1]["finish_reason"], decoded[-1]["gateway"]


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequence_left_in_by_the_provider_is_removed_and_reported(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    async with serving(up) as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop="w2 w3")
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 ", "stop", "w2 w3")
    assert up.requests[0].json["stop"] == "w2 w3"


@pytest.mark.parametrize("stream", [False, True])
async def test_text_without_a_stop_sequence_is_complete(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop=["w4 w5", "x"])
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2 w3 w4 ", "stop", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequences_over_the_provider_maximum_are_enforced_by_the_gateway(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    stops = ["a1", "a2", "a3", "a4", "w3"]
    async with serving(up, kind="openai") as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop=stops)
        strict = await post_chat(client, gateway, stop=stops, headers={"x-gateway-strict": "true"})
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2 ", "stop", "w3")
    assert {"param": "stop", "action": "enforce_locally"}.items() <= next(
        adjustment for adjustment in receipt["adjustments"] if adjustment["param"] == "stop"
    ).items()
    assert up.requests[0].json["stop"] == stops[:4]
    assert (strict.status_code, len(up.requests)) == (200, 2), "nothing is lost, so strict mode accepts it"
    assert strict.json()["choices"][0]["message"]["content"] == "w0 w1 w2 "


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequence_named_by_the_provider_is_reported(up: FaultUpstream, client: httpx.AsyncClient, stream: bool, n: int) -> None:
    choice = {"index": 0, "finish_reason": "stop", "stop_reason": "END"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    completion = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock", "usage": usage}
    chunk = {**completion, "object": "chat.completion.chunk", "choices": [{**choice, "delta": {"role": "assistant", "content": "w0"}}]}
    message = {"role": "assistant", "content": "w0"}
    answer = json.dumps({**completion, "choices": [{**choice, "message": message}]}).encode()
    up.on("/v1/chat/completions", sse(chunk, b"[DONE]") if stream else canned(answer))
    async with serving(up, kind="vllm") as gateway:
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, stop=["x", "END"], n=n, seed=list(range(n)))
    assert (finish, receipt["stop_matched"]) == ("stop", "END")
    assert text == ("w0" * n if stream else "w0")


async def test_matched_stop_sequence_aborts_the_upstream_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
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
async def test_include_stop_str_in_output_keeps_the_stop_sequence(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool, kind: str
) -> None:
    async with serving(up, kind=kind) as gateway:
        options = {"stop": ["w2"], "include_stop_str_in_output": True}
        text, finish, receipt = await ask(client, gateway.base_url, stream=stream, **options)
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2", "stop", "w2")
    assert not {"stop", "include_stop_str_in_output"} & set(up.requests[0].json), "the upstream would remove the stop sequence"


async def test_every_choice_of_a_stream_ends_at_its_stop_sequence(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, stream=True, stop="w3", n=3)
    texts = {0: "", 1: "", 2: ""}
    for event in events(answer.text)[:-1]:
        for choice in json.loads(event)["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == dict.fromkeys(range(3), "w0 w1 w2 ")


async def test_response_without_a_match_is_returned_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    message = b'{"role":"assistant", "content":"ab"}'
    head = b'{"id":"c",  "object":"chat.completion","created":1,"model":"m",'
    body = head + b'"choices":[{"index":0,"message":%b,"finish_reason":"stop"}]}' % message
    up.on("/v1/chat/completions", canned(body))
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway)
        stopped = await post_chat(client, gateway, stop="zz")
    assert answer.content == stopped.content == body

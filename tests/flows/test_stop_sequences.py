"""Stop sequences: the text ends before the stop sequence for every provider, and the upstream stream is aborted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import RECEIPT, events, post_as, post_chat, serving
from tests.flows.live import Live
from tests.support.apis import CHAT_API, EACH_WAY, Api

Answer = tuple[str, str | None, dict[str, Any]]


async def ask(client: httpx.AsyncClient, gateway: Live, *, api: Api = CHAT_API, **more: Any) -> Answer:
    """Send one call. Return text, finish reason and receipt."""
    answer = await post_as(api, client, gateway, headers=RECEIPT, **more)
    assert answer.status_code == 200, answer.text
    told = api.read(answer)
    assert told.receipt is not None
    return told.text, told.stop, told.receipt


@EACH_WAY
async def test_stop_sequence_left_in_by_the_provider_is_removed_and_reported(
    up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool
) -> None:
    async with serving(up) as gateway:
        text, finish, receipt = await ask(client, gateway, api=api, stream=stream, stop="w2 w3")
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 ", "stop", "w2 w3")
    assert up.requests[0].json["stop"] in ("w2 w3", ["w2 w3"])
    assert [(each["param"], each["action"]) for each in receipt["adjustments"]].count((api.param("stop"), "enforce_locally")) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_text_without_a_stop_sequence_is_complete(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        text, finish, receipt = await ask(client, gateway, stream=stream, stop=["w4 w5", "x"])
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2 w3 w4 ", "stop", None)


@EACH_WAY
async def test_stop_sequences_over_the_provider_maximum_are_enforced_by_the_gateway(
    up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool
) -> None:
    stops = ["a1", "a2", "a3", "a4", "w3"]
    async with serving(up, kind="openai") as gateway:
        text, finish, receipt = await ask(client, gateway, api=api, stream=stream, stop=stops)
        strict = await post_as(api, client, gateway, stop=stops, headers={"x-gateway-strict": "true"})
    assert (text, finish, receipt["stop_matched"]) == ("w0 w1 w2 ", "stop", "w3")
    assert [each["action"] for each in receipt["adjustments"] if each["param"] == api.param("stop")] == ["enforce_locally"]
    assert up.requests[0].json["stop"] == stops[:4]
    assert (strict.status_code, len(up.requests)) == (200, 2), "nothing is lost, so strict mode accepts it"
    assert api.read(strict).text == "w0 w1 w2 "


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
        text, finish, receipt = await ask(client, gateway, stream=stream, stop=["x", "END"], n=n, seed=list(range(n)))
    assert (finish, receipt["stop_matched"]) == ("stop", "END")
    assert text == "w0"


async def test_matched_stop_sequence_aborts_the_upstream_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 100_000, 0.002
    async with serving(up) as gateway:
        text, finish, _ = await ask(client, gateway, stream=True, stop="w5")
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
        text, finish, receipt = await ask(client, gateway, stream=stream, **options)
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

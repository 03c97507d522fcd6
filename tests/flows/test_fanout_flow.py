"""Several choices from a provider that returns one per call: parallel upstream calls, one response."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import Exchange, FaultUpstream, status
from tests.flows.conftest import RECEIPT, chat, events, post_chat, serving

ONE_EACH = "siati"
"""A provider type that returns one choice per call."""


async def echo_seed(exchange: Exchange) -> None:
    """Answer with the seed as text, sooner for a higher seed. A stream has the text in two chunks."""
    body = exchange.request.json
    seed = body.get("seed")
    head: dict[str, Any] = {"id": f"c{seed}", "created": 1, "model": "mock"}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    await exchange.sleep(0.005 * (9 - (seed or 0) % 10))
    if body.get("stream"):
        await exchange.start_stream()
        head["object"] = "chat.completion.chunk"
        for delta, finish in (({"role": "assistant", "content": "seed "}, None), ({"content": str(seed)}, None), ({}, "stop")):
            await exchange.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        await exchange.event({**head, "choices": [], "usage": usage})
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")
        return
    choice = {"index": 0, "message": {"role": "assistant", "content": f"seed {seed}"}, "finish_reason": "stop"}
    answer = json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))


async def post(client: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
    """Send a chat call that returns its receipt in the body."""
    return await client.post(url + "/chat/completions", json=chat(**more), headers=RECEIPT)


async def test_each_listed_seed_gets_its_own_call_and_choices_keep_their_order(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", echo_seed)
    async with serving(up, kind=ONE_EACH) as gateway:
        body = (await post(client, gateway.base_url, n=3, seed=[4, 6, 8])).json()
        singles = [(await post(client, gateway.base_url, seed=seed)).json() for seed in (4, 6, 8)]
    assert [(choice["index"], choice["message"]["content"]) for choice in body["choices"]] == [(0, "seed 4"), (1, "seed 6"), (2, "seed 8")]
    (reason,) = [adjustment["why"] for adjustment in body["gateway"]["adjustments"] if adjustment["action"] == "fan_out"]
    assert "the prompt is billed for each, and usage is added up" in reason
    assert [choice["message"] for choice in body["choices"]] == [single["choices"][0]["message"] for single in singles]
    assert body["usage"] == {"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}
    assert {"param": "n", "action": "fan_out", "from": 3}.items() <= body["gateway"]["adjustments"][0].items()
    assert all("n" not in request.json for request in up.requests)


async def test_single_seed_is_incremented_per_call_and_a_missing_seed_stays_missing(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", echo_seed)
    async with serving(up, kind=ONE_EACH) as gateway:
        await post(client, gateway.base_url, n=3, seed=40)
        assert sorted(request.json["seed"] for request in up.requests) == [40, 41, 42]
        up.requests.clear()
        await post(client, gateway.base_url, n=2)
    assert [request.json.get("seed") for request in up.requests] == [None, None]


async def test_fanned_out_streams_are_interleaved_with_correct_indexes_and_summed_usage(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on("/v1/chat/completions", echo_seed)
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=3, seed=[4, 6, 8], stream=True, stream_options={"include_usage": True})
        (record,) = await gateway.records(1)
    *chunks, done = events(answer.text)
    decoded = [json.loads(chunk) for chunk in chunks]
    texts, ends = {0: "", 1: "", 2: ""}, []
    for choice in (choice for chunk in decoded for choice in chunk["choices"]):
        texts[choice["index"]] += choice["delta"].get("content", "")
        ends += [choice["index"]] if choice["finish_reason"] else []
    assert (texts, sorted(ends), done) == ({0: "seed 4", 1: "seed 6", 2: "seed 8"}, [0, 1, 2], "[DONE]")
    assert len({chunk["id"] for chunk in decoded}) == 1
    assert [chunk["usage"]["total_tokens"] for chunk in decoded if chunk.get("usage")] == [36]
    assert (record["prompt_tokens"], record["output_tokens"]) == (30, 6)


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_the_first_byte_is_one_error_and_aborts_the_other_calls(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.hang()

    up.on("/v1/chat/completions", hang)
    up.on(lambda request: b'"seed":2' in request.body, status(429, "slow down"))
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=3, seed=[1, 2, 3], stream=stream)
        await up.wait_for(lambda up: sum(request.left is not None for request in up.requests) == len(up.requests) - 1)
        (record,) = await gateway.records(1)
    assert (answer.status_code, answer.headers["content-type"], record["status"]) == (429, "application/json", 429)
    assert "choices" not in answer.json()


async def test_failure_after_the_first_byte_is_an_error_event_and_aborts_the_other_calls(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    started = asyncio.Event()

    async def stream_one_chunk(exchange: Exchange) -> None:
        await exchange.start_stream()
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        await exchange.event({**chunk, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]})
        if exchange.request.json["seed"] != 2:
            await exchange.hang()
        await started.wait()
        exchange.rst()

    up.on("/v1/chat/completions", stream_one_chunk)
    async with serving(up, kind=ONE_EACH) as gateway:
        body = chat(n=3, seed=[1, 2, 3], stream=True)
        async with client.stream("POST", gateway.base_url + "/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            first = [await anext(lines)]
            started.set()
            text = "\n".join(first + [line async for line in lines])
        await up.wait_for(lambda up: up.ledger.open == 0)
    assert answer.status_code == 200
    last = json.loads(events(text)[-1].removeprefix("\n").removeprefix("data: "))
    assert last["error"]["type"]
    assert "[DONE]" not in text


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnect_aborts_all_fanned_out_calls(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.chunks, up.delay = 100_000, 0.01
    async with serving(up, kind=ONE_EACH) as gateway:
        url = gateway.base_url + "/chat/completions"
        call = asyncio.create_task(client.post(url, json=chat(n=4, stream=stream)))
        await up.wait_for(lambda up: len(up.requests) == 4)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await up.wait_for(lambda up: all(request.left is not None for request in up.requests))
        await gateway.records(1)
    assert up.ledger.open == 0


async def test_more_choices_than_allowed_calls_are_rejected_before_any_upstream_request(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=9)
    assert (answer.status_code, answer.json()["error"]["param"], len(up.requests)) == (400, "n", 0)


@pytest.mark.parametrize(("kind", "calls"), [("friendli", 1), ("openai", 2), (ONE_EACH, 2)])
async def test_list_of_seeds_is_forwarded_to_providers_that_support_it(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, calls: int
) -> None:
    async with serving(up, kind=kind) as gateway:
        answer = await post(client, gateway.base_url, n=2, seed=[3, 5])
    assert len(answer.json()["choices"]) == 2
    seeds = [request.json["seed"] for request in up.requests]
    assert (sorted(seeds) if calls > 1 else seeds) == ([3, 5] if calls > 1 else [[3, 5]])


async def test_seed_is_dropped_warned_about_or_kept_depending_on_the_provider(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    reports = {}
    for kind in ("gemini", "openai", "friendli"):
        async with serving(up, kind=kind) as gateway:
            receipt = (await post(client, gateway.base_url, seed=3)).json()["gateway"]
        reports[kind] = [
            (adjustment["action"], "best effort" in adjustment.get("why", ""))
            for adjustment in receipt["adjustments"]
            if adjustment["param"] == "seed"
        ]
    assert reports == {"gemini": [("drop", False)], "openai": [("warn", True)], "friendli": []}


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequence_ends_every_fanned_out_choice(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=2, stop="w3", stream=stream)
    decoded = [json.loads(chunk) for chunk in events(answer.text)[:-1]] if stream else [answer.json()]
    texts = {0: "", 1: ""}
    for choice in (choice for chunk in decoded for choice in chunk["choices"]):
        texts[choice["index"]] += choice["delta" if stream else "message"].get("content", "")
    assert (texts, decoded[-1]["gateway"]["stop_matched"]) == ({0: "w0 w1 w2 ", 1: "w0 w1 w2 "}, "w3")


async def test_fanned_out_stream_is_complete_even_if_the_first_choice_starts_last(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    stream = sse(chat_chunk("one "), chat_chunk("two "), chat_chunk(finish="stop"), b"[DONE]")

    async def late(exchange: Exchange) -> None:
        await exchange.sleep(0.5)
        await stream(exchange)

    up.on("/v1/chat/completions", stream)
    up.once(late)
    async with serving(up, kind="groq") as gateway:
        answer = await post_chat(client, gateway, n=2, stream=True)
        assert gateway.count("lockgate_internal_errors") == 0
    assert len(up.requests) == 2
    assert answer.status_code == 200
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    texts = ["", ""]
    for choice in [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]:
        texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["one two ", "one two "]

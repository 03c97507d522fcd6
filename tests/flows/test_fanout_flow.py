"""n choices where a provider gives one: calls side by side through the whole gateway, one answer, all or nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import Exchange, FaultUpstream, status
from tests.flows.conftest import chat, events, serving

ONE_EACH = "siati"
"""A provider type that answers one choice a call."""


async def echo_seed(exchange: Exchange) -> None:
    """An answer whose text is the seed, the later seeds first; as a stream in two chunks."""
    asked = exchange.request.json
    seed = asked.get("seed")
    head: dict[str, Any] = {"id": f"c{seed}", "created": 1, "model": "mock"}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    await exchange.sleep(0.005 * (9 - (seed or 0) % 10))
    if asked.get("stream"):
        await exchange.start_stream()
        head["object"] = "chat.completion.chunk"
        for delta, finish in (({"role": "assistant", "content": "seed "}, None), ({"content": str(seed)}, None), ({}, "stop")):
            await exchange.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        await exchange.event({**head, "choices": [], "usage": usage})
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")
        return
    choice = {"index": 0, "message": {"role": "assistant", "content": f"seed {seed}"}, "finish_reason": "stop"}
    body = json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def post(client: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
    """A chat with its receipt in the body."""
    return await client.post(url + "/chat/completions", json=chat(**more), headers={"x-gateway-receipt": "body"})


async def test_listed_seeds_go_to_a_call_each_and_come_back_in_order(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", echo_seed)
    async with serving(up, kind=ONE_EACH) as gateway:
        body = (await post(client, gateway.base_url, n=3, seed=[4, 6, 8])).json()
        singles = [(await post(client, gateway.base_url, seed=seed)).json() for seed in (4, 6, 8)]
    assert [(one["index"], one["message"]["content"]) for one in body["choices"]] == [(0, "seed 4"), (1, "seed 6"), (2, "seed 8")]
    (told,) = [one["why"] for one in body["gateway"]["adjustments"] if one["action"] == "fan_out"]
    assert "prompt tokens are billed by each and added up" in told
    assert [one["message"] for one in body["choices"]] == [one["choices"][0]["message"] for one in singles]
    assert body["usage"] == {"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}
    assert {"param": "n", "action": "fan_out", "from": 3}.items() <= body["gateway"]["adjustments"][0].items()
    assert all("n" not in request.json for request in up.requests)


async def test_one_seed_is_counted_up_and_none_stays_none(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", echo_seed)
    async with serving(up, kind=ONE_EACH) as gateway:
        await post(client, gateway.base_url, n=3, seed=40)
        assert sorted(request.json["seed"] for request in up.requests) == [40, 41, 42]
        up.requests.clear()
        await post(client, gateway.base_url, n=2)
    assert [request.json.get("seed") for request in up.requests] == [None, None]


async def test_streams_are_interleaved_with_right_indexes_and_their_usage_added(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", echo_seed)
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=3, seed=[4, 6, 8], stream=True, stream_options={"include_usage": True})
        (record,) = await gateway.records(1)
    *chunks, done = events(answer.text)
    decoded = [json.loads(one) for one in chunks]
    texts, ends = {0: "", 1: "", 2: ""}, []
    for choice in (choice for one in decoded for choice in one["choices"]):
        texts[choice["index"]] += choice["delta"].get("content", "")
        ends += [choice["index"]] if choice["finish_reason"] else []
    assert (texts, sorted(ends), done) == ({0: "seed 4", 1: "seed 6", 2: "seed 8"}, [0, 1, 2], "[DONE]")
    assert len({one["id"] for one in decoded}) == 1
    assert [one["usage"]["total_tokens"] for one in decoded if one.get("usage")] == [36]
    assert (record["prompt_tokens"], record["output_tokens"]) == (30, 6)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_failure_before_the_first_byte_is_one_error_and_ends_the_others(
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


async def test_one_failure_after_the_first_byte_is_an_error_event_and_ends_the_others(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    begun = asyncio.Event()

    async def speak(exchange: Exchange) -> None:
        await exchange.start_stream()
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        await exchange.event({**chunk, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]})
        if exchange.request.json["seed"] != 2:
            await exchange.hang()
        await begun.wait()
        exchange.rst()

    up.on("/v1/chat/completions", speak)
    async with serving(up, kind=ONE_EACH) as gateway:
        body = chat(n=3, seed=[1, 2, 3], stream=True)
        async with client.stream("POST", gateway.base_url + "/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            first = [await anext(lines)]
            begun.set()
            text = "\n".join(first + [line async for line in lines])
        await up.wait_for(lambda up: up.ledger.open == 0)
    assert answer.status_code == 200
    last = json.loads(events(text)[-1].removeprefix("\n").removeprefix("data: "))
    assert last["error"]["type"]
    assert "[DONE]" not in text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_ends_all_upstream_calls(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.chunks, up.delay = 100_000, 0.01
    async with serving(up, kind=ONE_EACH) as gateway:
        url = gateway.base_url + "/chat/completions"
        asked = asyncio.ensure_future(client.post(url, json=chat(n=4, stream=stream)))
        await up.wait_for(lambda up: len(up.requests) == 4)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await up.wait_for(lambda up: all(request.left is not None for request in up.requests))
        await gateway.records(1)
    assert up.ledger.open == 0


async def test_more_choices_than_calls_allowed_are_refused_before_any_is_made(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=9)
    assert (answer.status_code, answer.json()["error"]["param"], len(up.requests)) == (400, "n", 0)


@pytest.mark.parametrize(("kind", "calls"), [("friendli", 1), ("openai", 2), (ONE_EACH, 2)])
async def test_a_list_of_seeds_goes_natively_where_it_is_known(up: FaultUpstream, client: httpx.AsyncClient, kind: str, calls: int) -> None:
    async with serving(up, kind=kind) as gateway:
        answer = await post(client, gateway.base_url, n=2, seed=[3, 5])
    assert len(answer.json()["choices"]) == 2
    seeds = [request.json["seed"] for request in up.requests]
    assert (sorted(seeds) if calls > 1 else seeds) == ([3, 5] if calls > 1 else [[3, 5]])


async def test_a_seed_is_dropped_where_there_is_none_and_best_effort_where_it_is_a_hint(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    told = {}
    for kind in ("gemini", "openai", "friendli"):
        async with serving(up, kind=kind) as gateway:
            receipt = (await post(client, gateway.base_url, seed=3)).json()["gateway"]
        told[kind] = [(one["action"], "best effort" in one.get("why", "")) for one in receipt["adjustments"] if one["param"] == "seed"]
    assert told == {"gemini": [("drop", False)], "openai": [("warn", True)], "friendli": []}


@pytest.mark.parametrize("stream", [False, True])
async def test_stops_end_each_of_the_calls(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up, kind=ONE_EACH) as gateway:
        answer = await post(client, gateway.base_url, n=2, stop="w3", stream=stream)
    decoded = [json.loads(one) for one in events(answer.text)[:-1]] if stream else [answer.json()]
    texts = {0: "", 1: ""}
    for choice in (choice for one in decoded for choice in one["choices"]):
        texts[choice["index"]] += choice["delta" if stream else "message"].get("content", "")
    assert (texts, decoded[-1]["gateway"]["stop_matched"]) == ({0: "w0 w1 w2 ", 1: "w0 w1 w2 "}, "w3")

"""Goodfire's own paths answer in Goodfire's form whoever is behind them; all other paths are left alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from tests.faults.behaviours import canned, sse
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.conftest import chat, events, serving

PATH = "/api/inference/v1/chat/completions"
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def spoken(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One chunk as OpenAI sends it, without a fingerprint."""
    choice = {"index": index, "delta": delta}
    return {**CHUNK, "choices": [{**choice, "finish_reason": finish} if finish else choice]}


async def stream_of(client: httpx.AsyncClient, url: str, **more: Any) -> tuple[list[dict[str, Any]], str]:
    """The JSON chunks of a stream, and its last event."""
    response = await client.post(url, json=chat(stream=True, **more))
    assert response.status_code == 200, response.text
    found = events(response.text)
    found = [one for one in found if one]
    return [json.loads(one) for one in found[:-1]], found[-1]


async def test_every_chunk_has_an_index_a_role_a_content_and_a_fingerprint(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    timed = {**CHUNK, "usage": usage, "time_info": {"total_time": 0.1}, "choices": []}
    filtered = {**CHUNK, "choices": [], "prompt_filter_results": []}
    up.on("/v1/chat/completions", sse(filtered, spoken({"role": "assistant"}), spoken({"content": "A"}), spoken({"content": "B"}),
          spoken({}, "stop"), timed, b"[DONE]"))  # fmt: skip
    async with serving(up) as gateway:
        chunks, last = await stream_of(client, gateway.url + PATH)
    assert last == "[DONE]"
    assert [chunk["choices"][0]["gf_token_index"] for chunk in chunks] == list(range(4))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "AB"
    assert {chunk["choices"][0]["delta"]["role"] for chunk in chunks} == {"assistant"}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert all(chunk["system_fingerprint"] == "" for chunk in chunks)
    assert all("usage" not in chunk and "time_info" not in chunk for chunk in chunks)


async def test_each_choice_counts_its_own_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    said = [spoken({"content": text}, index=index) for text, index in (("a", 0), ("x", 1), ("b", 0), ("y", 1))]
    up.on("/v1/chat/completions", sse(*said, spoken({}, "stop"), spoken({}, "stop", 1), b"[DONE]"))
    async with serving(up) as gateway:
        chunks, _ = await stream_of(client, gateway.url + PATH, n=2)
    for index in (0, 1):
        own = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert [choice["gf_token_index"] for choice in own] == [0, 1, 2]


async def test_the_fingerprint_of_the_upstream_is_kept_and_usage_comes_when_asked_for(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    marked = {**spoken({"role": "assistant", "content": "A"}), "system_fingerprint": "fp_1"}
    up.on("/v1/chat/completions", sse(marked, spoken({}, "stop"), {**CHUNK, "choices": [], "usage": usage}, b"[DONE]"))
    async with serving(up) as gateway:
        chunks, _ = await stream_of(client, gateway.url + PATH, stream_options={"include_usage": True})
    assert chunks[0]["system_fingerprint"] == "fp_1"
    assert chunks[-1]["usage"] == usage
    assert chunks[-1]["choices"] == []


async def test_stops_hold_there_too(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse(spoken({"content": "one EN"}), spoken({"content": "D two"}), spoken({}, "stop"), b"[DONE]"))
    async with serving(up) as gateway:
        chunks, last = await stream_of(client, gateway.url + PATH, stop=["END"])
    assert last == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "one "
    assert [chunk["choices"][0]["gf_token_index"] for chunk in chunks] == list(range(len(chunks)))


async def test_an_answer_has_a_fingerprint_and_text(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    bare = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]}
    up.on("/v1/chat/completions", canned(json.dumps(bare).encode()))
    async with serving(up) as gateway:
        body = (await client.post(gateway.url + PATH, json=chat())).json()
    created = body.pop("created")
    assert isinstance(created, int)
    message = {"role": "assistant", "content": ""}
    choice = {"index": 0, "message": message, "finish_reason": None}
    assert body == {"id": "", "object": "chat.completion", "model": "", "system_fingerprint": "", "choices": [choice]}


async def test_a_garbled_choice_is_the_upstreams_failure(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse({**CHUNK, "choices": ["no object"]}, b"[DONE]"))
    async with serving(up) as gateway:
        response = await client.post(gateway.url + PATH, json=chat(stream=True))
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_bad_event"


async def test_an_error_inside_the_stream_ends_it_with_its_message(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    seen = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(spoken({"content": "A"}))
        await seen.wait()
        await exchange.event({"error": {"message": "it broke", "type": "server_error"}})
        await exchange.chunk(b"")

    up.on("/v1/chat/completions", script)
    found = []
    async with serving(up) as gateway, client.stream("POST", gateway.url + PATH, json=chat(stream=True)) as response:
        async for line in response.aiter_lines():
            if line:
                found.append(json.loads(line.removeprefix("data: ")))
                seen.set()
    assert found[0]["choices"][0]["gf_token_index"] == 0
    assert "it broke" in found[-1]["error"]["message"]
    assert len(found) == 2


async def test_token_probabilities_are_at_goodfires_path_too(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    listed = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in (("Yes", -0.1), ("No", -2.5))]
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes"}, "finish_reason": "length",
              "logprobs": {"content": [{"token": "Yes", "logprob": -0.1, "bytes": None, "top_logprobs": listed}]}}  # fmt: skip
    up.on("/v1/chat/completions", canned(json.dumps({"id": "c", "choices": [choice]}).encode()))
    async with serving(up) as gateway:
        asked = {**chat(), "top_k": 10, "filter_vocabulary": None}
        response = await client.post(gateway.url + "/api/inference/v1/chat-attribution/compute-logits", json=asked)
    found = response.json()
    assert list(found["logits"]) == ["Yes", "No"]
    assert 0.9 < found["logits"]["Yes"] < 0.91
    assert "choices" not in found


async def test_other_paths_stay_as_the_upstream_sent_them(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse(spoken({"content": "A"}), spoken({}, "stop"), b"[DONE]"))
    async with serving(up) as gateway:
        chunks, _ = await stream_of(client, gateway.base_url + "/chat/completions")
    assert chunks == [spoken({"content": "A"}), spoken({}, "stop")]

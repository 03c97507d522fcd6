"""Goodfire's paths return Goodfire's format for every provider; other paths return the upstream's chunks unchanged."""

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


def openai_chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """Return one chunk as OpenAI sends it, without a fingerprint."""
    choice = {"index": index, "delta": delta}
    return {**CHUNK, "choices": [{**choice, "finish_reason": finish} if finish else choice]}


async def read_stream(client: httpx.AsyncClient, url: str, **more: Any) -> tuple[list[dict[str, Any]], str]:
    """Return the JSON chunks of a stream and its last event."""
    response = await client.post(url, json=chat(stream=True, **more))
    assert response.status_code == 200, response.text
    *chunks, last = [event for event in events(response.text) if event]
    return [json.loads(chunk) for chunk in chunks], last


async def test_goodfire_chunks_have_token_index_role_content_and_fingerprint(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    timed = {**CHUNK, "usage": usage, "time_info": {"total_time": 0.1}, "choices": []}
    filtered = {**CHUNK, "choices": [], "prompt_filter_results": []}
    role, text = openai_chunk({"role": "assistant"}), [openai_chunk({"content": letter}) for letter in "AB"]
    up.on("/v1/chat/completions", sse(filtered, role, *text, openai_chunk({}, "stop"), timed, b"[DONE]"))
    async with serving(up) as gateway:
        chunks, last = await read_stream(client, gateway.url + PATH)
    assert last == "[DONE]"
    assert [chunk["choices"][0]["gf_token_index"] for chunk in chunks] == list(range(4))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "AB"
    assert {chunk["choices"][0]["delta"]["role"] for chunk in chunks} == {"assistant"}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert all(chunk["system_fingerprint"] == "" for chunk in chunks)
    assert all("usage" not in chunk and "time_info" not in chunk for chunk in chunks)


async def test_goodfire_token_index_counts_per_choice(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    chunks_sent = [openai_chunk({"content": text}, index=index) for text, index in (("a", 0), ("x", 1), ("b", 0), ("y", 1))]
    up.on("/v1/chat/completions", sse(*chunks_sent, openai_chunk({}, "stop"), openai_chunk({}, "stop", 1), b"[DONE]"))
    async with serving(up) as gateway:
        chunks, _ = await read_stream(client, gateway.url + PATH, n=2)
    for index in (0, 1):
        own = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert [choice["gf_token_index"] for choice in own] == [0, 1, 2]


async def test_goodfire_stream_keeps_the_fingerprint_and_includes_requested_usage(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    marked = {**openai_chunk({"role": "assistant", "content": "A"}), "system_fingerprint": "fp_1"}
    up.on("/v1/chat/completions", sse(marked, openai_chunk({}, "stop"), {**CHUNK, "choices": [], "usage": usage}, b"[DONE]"))
    async with serving(up) as gateway:
        chunks, _ = await read_stream(client, gateway.url + PATH, stream_options={"include_usage": True})
    assert chunks[0]["system_fingerprint"] == "fp_1"
    assert chunks[-1]["usage"] == usage
    assert chunks[-1]["choices"] == []


async def test_goodfire_stream_ends_at_a_stop_sequence(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(
        "/v1/chat/completions",
        sse(openai_chunk({"content": "one EN"}), openai_chunk({"content": "D two"}), openai_chunk({}, "stop"), b"[DONE]"),
    )
    async with serving(up) as gateway:
        chunks, last = await read_stream(client, gateway.url + PATH, stop=["END"])
    assert last == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "one "
    assert [chunk["choices"][0]["gf_token_index"] for chunk in chunks] == list(range(len(chunks)))


async def test_goodfire_response_fills_in_missing_fields(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    bare = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]}
    up.on("/v1/chat/completions", canned(json.dumps(bare).encode()))
    async with serving(up) as gateway:
        body = (await client.post(gateway.url + PATH, json=chat())).json()
    created = body.pop("created")
    assert isinstance(created, int)
    message = {"role": "assistant", "content": ""}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    assert body.pop("id").startswith("chatcmpl-")
    assert body == {"object": "chat.completion", "model": "mock", "system_fingerprint": "", "choices": [choice]}


async def test_malformed_choice_in_a_goodfire_stream_is_an_upstream_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse({**CHUNK, "choices": ["no object"]}, b"[DONE]"))
    async with serving(up) as gateway:
        response = await client.post(gateway.url + PATH, json=chat(stream=True))
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_bad_event"


async def test_error_event_ends_a_goodfire_stream_with_its_message(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    first_chunk_read = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(openai_chunk({"content": "A"}))
        await first_chunk_read.wait()
        await exchange.event({"error": {"message": "it broke", "type": "server_error"}})
        await exchange.chunk(b"")

    up.on("/v1/chat/completions", script)
    received = []
    async with serving(up) as gateway, client.stream("POST", gateway.url + PATH, json=chat(stream=True)) as response:
        async for line in response.aiter_lines():
            if line:
                received.append(json.loads(line.removeprefix("data: ")))
                first_chunk_read.set()
    assert received[0]["choices"][0]["gf_token_index"] == 0
    assert "it broke" in received[-1]["error"]["message"]
    assert len(received) == 2


async def test_goodfire_logits_path_returns_token_probabilities(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    listed = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in (("Yes", -0.1), ("No", -2.5))]
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes"}, "finish_reason": "length",
              "logprobs": {"content": [{"token": "Yes", "logprob": -0.1, "bytes": None, "top_logprobs": listed}]}}  # fmt: skip
    up.on("/v1/chat/completions", canned(json.dumps({"id": "c", "choices": [choice]}).encode()))
    async with serving(up) as gateway:
        request = {**chat(), "top_k": 10, "filter_vocabulary": None}
        response = await client.post(gateway.url + "/api/inference/v1/chat-attribution/compute-logits", json=request)
    body = response.json()
    assert list(body["logits"]) == ["Yes", "No"]
    assert 0.9 < body["logits"]["Yes"] < 0.91
    assert "choices" not in body


async def test_other_paths_keep_the_upstream_chunks_unchanged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse(openai_chunk({"role": "assistant", "content": "A"}), openai_chunk({}, "stop"), b"[DONE]"))
    async with serving(up) as gateway:
        chunks, _ = await read_stream(client, gateway.base_url + "/chat/completions")
    assert chunks == [openai_chunk({"role": "assistant", "content": "A"}), openai_chunk({}, "stop")]

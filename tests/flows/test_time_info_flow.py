"""time_info in receipts: the times that the provider reports, or times that the gateway measures and marks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import RECEIPT, chat, post_chat, receipt_of, serving

TIMES = {"queue_time": 0.25, "prompt_time": 0.5, "completion_time": 1.5, "total_time": 2.25}
METRICS = {
    "prefill-queue-duration": "0.25", "server-time-to-first-token": 0.75, "server-processing-time": "2.25", "prompt-tokens": "3",
}  # fmt: skip
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def times(client: httpx.AsyncClient, url: str, *, stream: bool) -> dict[str, Any]:
    """Send one call and return time_info of its receipt."""
    answer = await client.post(url + "/chat/completions", json=chat(stream=stream), headers=RECEIPT)
    time_info: dict[str, Any] = receipt_of(answer)["time_info"]
    return time_info


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "reported"),
    [
        ("cerebras", {"time_info": TIMES, "usage": USAGE}),
        ("groq", {"usage": {**USAGE, **TIMES}}),
        ("fireworks", {"usage": USAGE, "perf_metrics": METRICS}),
    ],
)
async def test_reported_times_of_the_provider_are_in_the_receipt(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool, kind: str, reported: dict[str, Any]
) -> None:
    completion = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    last = {**chat_chunk(), "choices": [], **reported}
    streamed = sse(chat_chunk("hi"), chat_chunk(finish="stop"), last, b"[DONE]")
    up.on("/v1/chat/completions", streamed if stream else canned(json.dumps({**completion, "choices": choices, **reported}).encode()))
    async with serving(up, kind=kind) as gateway:
        assert await times(client, gateway.base_url, stream=stream) == {**TIMES, "source": "provider"}


@pytest.mark.parametrize("stream", [False, True])
async def test_missing_times_are_measured_and_marked(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.delay = 0.01
    async with serving(up) as gateway:
        measured = await times(client, gateway.base_url, stream=stream)
    assert measured.pop("source") == "measured"
    assert (measured["prompt_time"] is not None) == stream
    parts = sum(value or 0 for name, value in measured.items() if name != "total_time")
    assert measured["queue_time"] == 0
    assert measured["total_time"] >= parts
    assert measured["completion_time"] >= 0.03


async def test_response_without_a_receipt_has_no_times(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway)
    assert b"time_info" not in answer.content

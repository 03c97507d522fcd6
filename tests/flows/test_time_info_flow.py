"""How long an answer's parts took: the provider's word where it has one, ours marked as ours where it has none."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import chat, events, serving

TIMES = {"queue_time": 0.25, "prompt_time": 0.5, "completion_time": 1.5, "total_time": 2.25}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def times(client: httpx.AsyncClient, url: str, *, stream: bool) -> dict[str, Any]:
    """The receipt's time_info."""
    answer = await client.post(url + "/chat/completions", json=chat(stream=stream), headers={"x-gateway-receipt": "body"})
    found: dict[str, Any] = json.loads(events(answer.text)[-2] if stream else answer.text)["gateway"]["time_info"]
    return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "said"), [("cerebras", {"time_info": TIMES, "usage": USAGE}), ("groq", {"usage": {**USAGE, **TIMES}})])
async def test_the_providers_own_times_are_told(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool, kind: str, said: dict[str, Any]
) -> None:
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    last = {**chat_chunk(), "choices": [], **said}
    streamed = sse(chat_chunk("hi"), chat_chunk(finish="stop"), last, b"[DONE]")
    up.on("/v1/chat/completions", streamed if stream else canned(json.dumps({**whole, "choices": choices, **said}).encode()))
    async with serving(up, kind=kind) as gateway:
        assert await times(client, gateway.base_url, stream=stream) == {**TIMES, "source": "provider"}


@pytest.mark.parametrize("stream", [False, True])
async def test_times_that_no_provider_states_are_measured_and_marked(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.delay = 0.01
    async with serving(up) as gateway:
        found = await times(client, gateway.base_url, stream=stream)
    assert found.pop("source") == "measured"
    assert (found["prompt_time"] is not None) == stream
    parts = sum(value or 0 for name, value in found.items() if name != "total_time")
    assert found["total_time"] == pytest.approx(parts, abs=1e-4)
    assert found["completion_time"] >= 0.03


async def test_nobody_is_told_unasked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat())
    assert b"time_info" not in answer.content

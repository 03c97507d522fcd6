"""The scripted providers of the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.demo import provider as demo_provider
from gateway.demo.provider import DemoProvider, answer_to

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def provider() -> AsyncIterator[DemoProvider]:
    """A provider that listens."""
    started = DemoProvider("north")
    await started.start()
    yield started
    await started.stop()


async def post(provider: DemoProvider, client: httpx.AsyncClient, **more: object) -> httpx.Response:
    return await client.post(f"http://127.0.0.1:{provider.port}/v1/chat/completions", json={**BODY, **more})


async def test_answer_is_a_chat_completion(provider: DemoProvider, client: httpx.AsyncClient) -> None:
    answer = (await post(provider, client, max_tokens=4)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["message"]["content"].split()) == 4
    assert answer["usage"]["completion_tokens"] == 4
    assert (await post(provider, client)).json()["choices"][0]["finish_reason"] == "stop"


async def test_stream_has_the_same_text(provider: DemoProvider, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_provider, "CHUNK_PAUSE_S", 0.0)
    whole = (await post(provider, client)).json()["choices"][0]["message"]["content"]
    lines = (await post(provider, client, stream=True)).text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    assert "".join(httpx.Response(200, text=line[6:]).json()["choices"][0]["delta"].get("content", "") for line in lines[:-1]) == whole


async def test_dead_provider_closes_the_connection(provider: DemoProvider, client: httpx.AsyncClient) -> None:
    provider.behaviour = "dead"
    with pytest.raises(httpx.TransportError):
        await post(provider, client)
    assert provider.requests == 1


async def test_cut_stream_ends_in_the_middle(provider: DemoProvider, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_provider, "CHUNK_PAUSE_S", 0.0)
    provider.behaviour = "cut"
    received = b""

    async def read() -> None:
        nonlocal received
        async with client.stream("POST", f"http://127.0.0.1:{provider.port}/v1/chat/completions", json={**BODY, "stream": True}) as answer:
            async for piece in answer.aiter_bytes():
                received += piece

    with pytest.raises(httpx.TransportError):
        await read()
    assert b"data: {" in received
    assert b"[DONE]" not in received


async def test_busy_provider_answers_429(provider: DemoProvider, client: httpx.AsyncClient) -> None:
    provider.behaviour = "busy"
    answer = await post(provider, client)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


async def test_slow_provider_answers_later(provider: DemoProvider, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(demo_provider.asyncio, "sleep", sleep)
    provider.behaviour = "slow"
    assert (await post(provider, client)).status_code == 200
    assert waited == [demo_provider.SLOW_S]


def test_text_continues_where_it_was_broken_off() -> None:
    text, _ = answer_to(BODY["messages"])
    begun = text[:50]
    assert answer_to([*BODY["messages"], {"role": "assistant", "content": begun}]) == (text, begun)
    assert answer_to([*BODY["messages"], {"role": "assistant", "content": "other"}]) == (text, "")
    assert answer_to([])[1] == ""

"""Streams as the openai package reads them, and disconnects of its callers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import openai
import pytest

from tests.clients.conftest import HELLO, Front
from tests.faults.behaviours import chat_chunk
from tests.faults.upstream_server import Exchange


def say(text: str) -> Any:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


def text_of(chunks: list[Any]) -> str:
    """Return the content of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def lines_of(front: Front, body: dict[str, Any]) -> list[str]:
    """Return the data of all events of a stream, as sent."""
    response = front.post({**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


def test_a_stream_has_one_role_and_one_id(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="chat", messages=say("#chunks=12#"), stream=True))
    assert text_of(chunks) == "".join(f"w{number} " for number in range(12))
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices and chunk.choices[0].delta.role] == ["assistant"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"


def test_a_stream_has_usage_only_on_request(client: openai.OpenAI, front: Front) -> None:
    without_usage = list(client.chat.completions.create(model="chat", messages=HELLO, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in without_usage)
    with_usage = list(client.chat.completions.create(model="chat", messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.usage) for chunk in with_usage] == [False] * (len(with_usage) - 1) + [True]
    assert with_usage[-1].choices == []
    assert with_usage[-1].usage is not None
    assert with_usage[-1].usage.total_tokens == 1 + 5
    assert [request.json["stream_options"]["include_usage"] for request in front.upstream.requests] == [True, True]


def test_a_stream_ends_with_exactly_one_done(front: Front) -> None:
    lines = lines_of(front, {"model": "chat", "messages": HELLO})
    assert [line for line in lines if line == "[DONE]"] == ["[DONE]"]
    assert lines[-1] == "[DONE]"
    assert json.loads(lines[-2])["choices"][0]["finish_reason"] == "stop"


def test_the_first_event_is_not_held_back(client: openai.OpenAI, front: Front) -> None:
    seen = threading.Event()

    async def wait_for_reader(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(chat_chunk("first", role="assistant"))
        while not seen.is_set():
            await exchange.sleep(0.01)
        for chunk in (chat_chunk(" last"), chat_chunk(finish="stop")):
            await exchange.event(chunk)
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    front.upstream.on("/v1/chat/completions", wait_for_reader)
    stream = client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    assert next(iter(stream)).choices[0].delta.content == "first"
    seen.set()
    assert text_of(list(stream)) == " last"


async def end_early(exchange: Exchange) -> None:
    """End the body cleanly, without a finish reason."""
    await exchange.chunk(b"")


async def close(exchange: Exchange) -> None:
    """Close the connection with a FIN."""
    exchange.fin()


async def reset(exchange: Exchange) -> None:
    """Reset the connection with an RST."""
    exchange.rst()


async def send_error_event(exchange: Exchange) -> None:
    """Send an error event as OpenAI and vLLM do."""
    await exchange.event({"error": {"message": "exploded", "type": "server_error", "param": None, "code": "boom"}})
    await exchange.chunk(b"")


@pytest.mark.parametrize("breaking", [end_early, close, reset, send_error_event])
def test_a_broken_stream_raises_after_its_content(
    client: openai.OpenAI, front: Front, breaking: Callable[[Exchange], Awaitable[None]]
) -> None:
    seen = threading.Event()

    async def break_after_read(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in (chat_chunk("one ", role="assistant"), chat_chunk("two ")):
            await exchange.event(chunk)
        while not seen.is_set():
            await exchange.sleep(0.01)
        await breaking(exchange)

    front.upstream.on("/v1/chat/completions", break_after_read)
    chunks: list[Any] = []
    stream = iter(client.chat.completions.create(model="chat", messages=HELLO, stream=True))
    while text_of(chunks) != "one two ":
        chunks.append(next(stream))
    seen.set()
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        chunks.extend(stream)
    assert text_of(chunks) == "one two "
    assert {chunk.choices[0].finish_reason for chunk in chunks} == {None}


def test_no_done_follows_an_error_event(front: Front) -> None:
    lines = lines_of(front, {"model": "ends-early", "messages": HELLO})
    error = json.loads(lines[-1])["error"]
    assert error["code"] == "upstream_truncated"
    assert {"message", "type", "param", "code"} <= set(error)
    assert "[DONE]" not in lines


def test_a_disconnect_in_mid_stream_ends_the_upstream_call(client: openai.OpenAI, front: Front) -> None:
    stream = client.chat.completions.create(model="chat", messages=say("#chunks=100000##delay=20ms#"), stream=True)
    next(iter(stream))
    stream.close()
    wait_for_disconnects(front, 1)


def test_a_disconnect_before_the_answer_ends_the_upstream_call(client: openai.OpenAI, front: Front) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model="chat", messages=say("#chunks=1000##delay=1s#"))
    wait_for_disconnects(front, 1)


def wait_for_disconnects(front: Front, count: int) -> None:
    """Wait until the upstream connections of `count` requests are closed."""
    deadline = time.monotonic() + 20  # 4 s are documented; a busy machine may need more
    while sum(request.left is not None for request in front.upstream.requests) < count:
        assert time.monotonic() < deadline, front.upstream.ledger.as_json()
        time.sleep(0.01)


async def test_calls_succeed_after_client_timeouts(async_client: openai.AsyncOpenAI, front: Front) -> None:
    async with async_client as client:
        slow_client = client.with_options(timeout=30)
        fast_client = client.with_options(timeout=0.5)
        slow_messages: Any = say("#chunks=1000##delay=1s#")
        results = await asyncio.gather(
            *(fast_client.chat.completions.create(model="chat", messages=slow_messages) for _ in range(20)), return_exceptions=True
        )
        assert [type(result) for result in results] == [openai.APITimeoutError] * 20
        answer = await slow_client.chat.completions.create(model="chat", messages=HELLO)
        assert answer.choices[0].message.content == "w0 w1 w2 w3 w4 "
    await asyncio.to_thread(wait_for_disconnects, front, 20)


async def test_fifty_concurrent_streams_do_not_mix(async_client: openai.AsyncOpenAI, front: Front) -> None:
    async def echo(exchange: Exchange) -> None:
        """Stream the words of the request, one event each."""
        await exchange.start_stream()
        words = exchange.request.json["messages"][0]["content"].split()
        for word in words:
            await exchange.event(chat_chunk(word + " "))
            await exchange.sleep(0.001)
        await exchange.event(chat_chunk(finish="stop"))
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    front.upstream.on("/v1/chat/completions", echo)

    async def call(client: openai.AsyncOpenAI, number: int) -> tuple[str, str]:
        sent = " ".join(f"{number}-{word}" for word in range(40)) + " "
        stream = await client.chat.completions.create(model="chat", messages=say(sent), stream=True)
        return sent, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with async_client as client:
        pairs = await asyncio.gather(*(call(client, number) for number in range(50)))
    assert [received for _, received in pairs] == [sent for sent, _ in pairs]

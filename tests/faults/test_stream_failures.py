"""Upstream faults after the first content: the caller gets the complete stream, or an error event."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from gateway.http.caller import CallerDeadlines
from tests.faults.behaviours import SSE, WORDS, broken_by, chat_chunk, chunked, sse
from tests.faults.chat_script import answer_text
from tests.faults.client import CHAT_PATH, Answer, ask, chat
from tests.faults.conftest import EACH_FORM, Gate, Serve
from tests.faults.upstream_server import FIN, HANG, RST, Exchange, FaultUpstream, Script, canned, play
from tests.running import Figure, RunningGateway
from tests.support.process_memory import peak_resident_bytes

ENDED = chat_chunk(finish="stop")
DONE = b"[DONE]"


def usage_chunk(usage: Any) -> dict[str, Any]:
    """Return the chunk with the usage of a stream."""
    return {**chat_chunk(), "choices": [], "usage": usage}


def event(value: dict[str, Any]) -> bytes:
    """Return an event as OpenAI sends it."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def send_endless_event(exchange: Exchange) -> None:
    """Send 64 MiB without a line end."""
    await exchange.chunk(b"data: ")
    for _ in range(64 * 16):
        await exchange.chunk(b"x" * 65536)
        await exchange.sleep(0)


async def assert_breaks(gate: Gate, up: FaultUpstream, code: str, reason: str) -> Answer:
    """Check that a stream ends after "one two " with one error event, and that its record has the reason. Return the answer."""
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["code"] == code
    assert answer.failure["type"] == "upstream_error"
    assert answer.text == "one two "
    record = await gate.record(status=200, stream=True, stream_end=reason, error=code, estimated=True, output_tokens=2)
    assert [attempt["outcome"] for attempt in record["attempts"]] == [reason]
    assert gate.count("lockgate_stream_end", reason) == 1
    assert gate.count("lockgate_upstream_errors", reason) == 1
    assert len(up.requests) == 1
    return answer


async def test_u9_a_stalled_stream_gets_heartbeats_and_then_an_error_event(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    gate = await serve((up, "stall-mid-stream"), first={"idle_timeout": "1s"}, caller=CallerDeadlines(heartbeat=0.1))
    answer = await assert_breaks(gate, up, "upstream_stalled", "stalled")
    beats = answer.body.count(b": keepalive\n\n")
    figure("heartbeats in 1 s of silence, at an interval of 100 ms", beats, "")
    assert beats >= 1


async def test_u9_heartbeats_do_not_extend_the_idle_timeout(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "stall-mid-stream"), first={"idle_timeout": "300ms"}, caller=CallerDeadlines(heartbeat=0.05))
    before = time.monotonic()
    await assert_breaks(gate, up, "upstream_stalled", "stalled")
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("behaviour", ["fin-mid-stream", "end-without-finish"])
async def test_u11_an_end_without_a_finish_reason_is_an_error_event(serve: Serve, up: FaultUpstream, behaviour: str) -> None:
    gate = await serve((up, behaviour))
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["code"] == "upstream_truncated"
    assert answer.text == "one two "
    await gate.record(status=200, stream_end="truncated", estimated=True)
    assert gate.count("lockgate_upstream_errors", "truncated") == 1


async def test_u11_done_without_a_finish_reason_is_an_error_event(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, sse(*WORDS, DONE))
    await assert_breaks(await serve((up, "mock")), up, "upstream_truncated", "truncated")


async def test_u11_every_choice_needs_its_finish_reason(serve: Serve, up: FaultUpstream) -> None:
    second = chat_chunk("other")
    second["choices"][0]["index"] = 1
    up.on(CHAT_PATH, sse(*WORDS, second, ENDED, DONE))
    answer = await (await serve((up, "mock"))).ask(chat(stream=True, n=2))
    assert answer.failure["code"] == "upstream_truncated"


async def test_u12_a_reset_is_an_error_event(serve: Serve, up: FaultUpstream) -> None:
    await assert_breaks(await serve((up, "rst-mid-stream")), up, "upstream_reset", "reset")


async def test_u12_a_reset_does_not_disturb_another_stream(serve: Serve, up: FaultUpstream) -> None:
    up.chunks, up.delay = 30, 0.01
    gate = await serve((up, "mock"))
    other_stream = asyncio.create_task(gate.ask(chat(stream=True)))
    await up.wait_for(lambda up: bool(up.requests) and up.requests[0].events > 3)
    for _ in range(3):
        up.once(sse(*WORDS, ending=RST))
        assert (await gate.ask(chat(stream=True))).failure["code"] == "upstream_reset"
    answer = await other_stream
    assert answer.text == answer_text(30)
    assert answer.events[-1] == DONE


async def test_u15_a_malformed_event_ends_the_stream_with_an_error_event(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, broken_by(b'{"choices": [nope', ENDED, DONE))
    await assert_breaks(await serve((up, "mock")), up, "upstream_bad_event", "bad_event")


async def test_u15_a_malformed_first_event_falls_back_to_the_next_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.on(CHAT_PATH, sse(b'{"choices": [nope', *WORDS, ENDED, DONE))
    answer = await (await serve((up, "mock"), (other, "mock"))).ask(chat(stream=True))
    assert answer.header("x-gateway-target") == "p1/mock"
    assert answer.text == "w0 w1 w2 w3 w4 "


async def test_u15_content_before_a_malformed_event_is_delivered(serve: Serve, up: FaultUpstream) -> None:
    second_read = b"".join(event(chat_chunk(f"{number} ")) for number in range(20)) + b'data: {"choices": [nope\n\n' + event(ENDED)
    up.on(CHAT_PATH, play(SSE, chunked(event(WORDS[0]) + event(WORDS[1])), 0.2, chunked(second_read), HANG))
    answer = await (await serve((up, "mock"))).ask(chat(stream=True))
    assert answer.failure["code"] == "upstream_bad_event"
    assert answer.text == "one " + "".join(f"{number} " for number in range(20))


@pytest.mark.parametrize("data", [b"[]", b"null", b'"text"', b"1", b'{"choices": 5}', b"[DONE", b"\xff\xfe"])
async def test_u15_an_event_that_is_not_a_chunk_ends_the_stream_with_an_error_event(serve: Serve, up: FaultUpstream, data: bytes) -> None:
    up.on(CHAT_PATH, broken_by(data, ENDED, DONE))
    await assert_breaks(await serve((up, "mock")), up, "upstream_bad_event", "bad_event")


async def test_u18_sse_fields_that_break_clients_are_removed_and_counted(serve: Serve, up: FaultUpstream) -> None:
    body = (
        b"\xef\xbb\xbf: hello\n\nid: 1\nretry: 10\nevent: message\n" + event(WORDS[0]) + b"id: 2\n\ndata:\n\ndata: \n\n"
        b"retry: 5\n" + event(WORDS[1]) + b": comment\n" + event(WORDS[2]) + event(ENDED) + b"event: end\ndata: [DONE]\n\n"
    )
    up.on(CHAT_PATH, play(SSE, chunked(body), b"0\r\n\r\n"))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert answer.events == [*(json.dumps(chunk).encode() for chunk in (*WORDS, ENDED)), DONE]
    await gate.record(status=200, stream_end="ok")
    assert gate.count("lockgate_sse_normalised") == 6
    async with gate.openai_client() as client:
        stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["", "one ", "two ", None]


async def test_u22_an_endless_first_event_is_502(serve: Serve, up: FaultUpstream) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await send_endless_event(exchange)

    up.on(CHAT_PATH, script)
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert (answer.status, answer.error["code"]) == (502, "upstream_event_too_large")
    await gate.record(status=502)
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert up.requests[0].sent < 32 << 20


async def test_u22_an_endless_event_ends_the_stream_at_the_size_limit(serve: Serve, up: FaultUpstream) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in WORDS:
            await exchange.event(chunk)
        await exchange.sleep(0.1)
        await send_endless_event(exchange)

    up.on(CHAT_PATH, script)
    await assert_breaks(await serve((up, "mock")), up, "upstream_event_too_large", "too_large")
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert up.requests[0].sent < 32 << 20


async def test_u22_an_endless_event_is_not_buffered_in_memory(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure
) -> None:
    providers = {"p": {"type": "openai-compatible", "base_url": up.base_url}}
    text = json.dumps({"providers": providers, "models": {"m": "p/mock", "endless": "p/endless-event"}})
    running = await asyncio.to_thread(gateway, text)
    port = running.port
    assert (await ask(port, chat(stream=True))).status == 200
    before = peak_resident_bytes(running.pid)
    assert (await ask(port, chat("endless", stream=True))).error["code"] == "upstream_event_too_large"
    grown = peak_resident_bytes(running.pid) - before
    figure("memory for an event of 64 MiB", grown / (1 << 20), "MiB")
    assert grown < 24 << 20
    await asyncio.to_thread(running.stop)


async def test_u22_an_event_just_under_the_size_limit_arrives_whole(serve: Serve, up: FaultUpstream) -> None:
    text = "x" * ((1 << 20) - 1000)
    up.on(CHAT_PATH, sse(chat_chunk(text), ENDED, DONE))
    assert (await (await serve((up, "mock"))).ask(chat(stream=True))).text == text


CLOSE_DELIMITED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
STREAM = b"".join(map(event, (*WORDS, ENDED)))


@pytest.mark.parametrize(
    "steps",
    [
        (SSE + chunked(STREAM) + b"0\r\n\r\n",),
        (CLOSE_DELIMITED + STREAM, FIN),
        (SSE + chunked(STREAM), FIN),
        (SSE + chunked(STREAM + b"data: [DONE]\n\n"), FIN),
        (SSE + chunked(STREAM + b"data: [DONE]\n\n"), RST),
        (SSE + chunked(STREAM + b"data: [DONE]\n\n"), HANG),
        (SSE + chunked(STREAM + b"data: [DONE]"), b"0\r\n\r\n"),
    ],
    ids=["chunked", "close-delimited", "fin", "done-fin", "done-rst", "done-hang", "done-unterminated"],
)
async def test_u35_a_stream_with_a_finish_reason_ends_with_done(serve: Serve, up: FaultUpstream, steps: tuple[bytes, ...]) -> None:
    up.on(CHAT_PATH, play(*steps))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert answer.text == "one two "
    assert answer.events.count(DONE) == 1
    assert answer.events[-1] == DONE
    await gate.record(status=200, stream_end="ok", finish=["stop"], error=None)
    assert gate.count("lockgate_upstream_errors") == 0


INVALID_USAGES: list[Any] = [
    None,
    "many",
    {},
    [1, 2],
    {"prompt_tokens": -4, "completion_tokens": 2},
    {"prompt_tokens": 1, "completion_tokens": "two"},
    {"prompt_tokens": 1, "completion_tokens": 10**12},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
]


@pytest.mark.parametrize("usage", INVALID_USAGES)
@EACH_FORM
async def test_u36_missing_or_invalid_usage_is_estimated_and_flagged(serve: Serve, up: FaultUpstream, usage: Any, stream: bool) -> None:
    answer_body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": usage,
    }
    script = sse(*WORDS, ENDED, usage_chunk(usage), DONE) if stream else json_answer(answer_body)
    up.on(CHAT_PATH, script)
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=stream))
    assert answer.status == 200
    record = await gate.record(estimated=True)
    assert record["prompt_tokens"] > 0
    assert 0 <= record["output_tokens"] < 100
    assert gate.count("lockgate_tokens", "prompt", "estimated") == record["prompt_tokens"]
    assert gate.count("lockgate_tokens", "reported") == 0


def json_answer(value: dict[str, Any]) -> Script:
    """Return a script that sends a JSON answer."""
    return canned(json.dumps(value).encode())


@pytest.mark.parametrize("stream_options", [None, {"include_usage": False}, {}, {"include_usage": True}])
async def test_u37_usage_is_always_requested_and_returned_on_request(
    serve: Serve, up: FaultUpstream, stream_options: dict[str, Any] | None
) -> None:
    gate = await serve((up, "mock"))
    options: dict[str, Any] = {} if stream_options is None else {"stream_options": stream_options}
    answer = await gate.ask(chat(stream=True, **options))
    assert up.requests[0].json["stream_options"]["include_usage"] is True
    with_usage = [json.loads(event) for event in answer.events[:-1] if b"usage" in event]
    if stream_options == {"include_usage": True}:
        assert [chunk["usage"]["completion_tokens"] for chunk in with_usage] == [up.requests[0].tokens]
        assert json.loads(answer.events[-2]) == with_usage[0]
        assert with_usage[0]["choices"] == []
    else:
        assert with_usage == []
    await gate.record(output_tokens=up.requests[0].tokens, prompt_tokens=up.requests[0].prompt_tokens, estimated=None)
    assert gate.count("lockgate_tokens", "output", "reported") == up.requests[0].tokens


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("fin-mid-stream", "upstream_truncated"),
        ("rst-mid-stream", "upstream_reset"),
        ("stall-mid-stream", "upstream_stalled"),
    ],
)
async def test_u11_the_openai_package_raises_with_the_code_of_the_failure(
    serve: Serve, up: FaultUpstream, behaviour: str, code: str
) -> None:
    gate = await serve((up, behaviour), first={"idle_timeout": "300ms"})
    async with gate.openai_client() as client:
        stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        contents = [(await anext(stream)).choices[0].delta.content for _ in WORDS]
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
    assert contents == ["", "one ", "two "]
    assert caught.value.code == code
    assert caught.value.type == "upstream_error"

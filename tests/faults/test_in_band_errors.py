"""Errors with status 200: instead of a stream, as its first event, or after content."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.faults.behaviours import SSE, WORDS, broken_by, canned, chat_chunk, chunked, sse
from tests.faults.chat_script import answer_text
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import Serve
from tests.faults.upstream_server import HANG, FaultUpstream, play

OPENAI = {"error": {"message": "no room", "type": "server_error", "param": None, "code": "server_is_overloaded"}}
RATE = {"error": {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
VLLM = {"object": "error", "message": "the engine gave up", "type": "InternalServerError", "param": None, "code": 500}
BAD = {"error": {"message": "no such tool", "type": "invalid_request_error", "param": "tools", "code": None}}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(OPENAI, 503, "server_is_overloaded"), (RATE, 429, "rate_limit_exceeded"), (BAD, 400, None), (VLLM, 502, "upstream_error")],
    ids=["overloaded", "rate", "client", "vllm"],
)
@pytest.mark.parametrize("form", ["json", "event"])
async def test_u19_u20_an_error_before_the_first_content_is_an_http_error(
    serve: Serve, up: FaultUpstream, error: dict[str, Any], status: int, code: str | None, form: str
) -> None:
    up.on(CHAT_PATH, canned(json.dumps(error).encode()) if form == "json" else sse(error, ending=HANG))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    if error is VLLM and form == "json":  # JSON without an error object, instead of a stream
        status, code = 502, "upstream_bad_response"
    assert (answer.status, answer.error["code"]) == (status, code), answer
    assert (answer.header("retry-after") is not None) == (status in (429, 503))
    await gate.record(status=status, error=code, output_tokens=None)
    await up.wait_for(lambda up: up.ledger.open <= (form == "json"))


@pytest.mark.parametrize("behaviour", ["error-instead-of-stream", "error-first-event"])
async def test_u19_u20_an_error_before_the_first_content_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, behaviour: str
) -> None:
    gate = await serve((up, behaviour), (other, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert (answer.header("x-gateway-target"), answer.text) == ("p1/mock", "w0 w1 w2 w3 w4 ")
    record = await gate.record(status=200, target="p1/mock", output_tokens=5, estimated=None)
    assert len(record["attempts"]) == 2
    assert len(up.requests) == len(other.requests) == 1
    label = "rate_limit" if behaviour == "error-instead-of-stream" else "inband_error"
    kinds = {labels for labels in gate.gateway.metrics.counts["lockgate_upstream_errors"] if labels[0].startswith("p0/")}
    assert kinds <= {(f"p0/{behaviour}", label), (f"p0/{behaviour}", "overloaded")}
    assert len(kinds) == 1


ANTHROPIC_START = {"type": "message_start", "message": {"id": "msg", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}}
ANTHROPIC_OPEN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}


def text_delta(text: str) -> dict[str, Any]:
    """Return an event with a piece of text on the wire of Anthropic."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


async def test_u20_anthropic_overload_as_the_first_event_is_503_with_retry_after(serve: Serve, up: FaultUpstream) -> None:
    up.on("/v1/messages", sse(OVERLOADED, ending=HANG))
    gate = await serve((up, "claude"), first={"type": "anthropic"})
    answer = await gate.ask(chat(stream=True))
    assert answer.status == 503
    assert answer.header("retry-after")
    await gate.record(status=503)


async def test_u20_anthropic_overload_after_message_start_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream
) -> None:
    up.on("/v1/messages", sse(ANTHROPIC_START, OVERLOADED, ending=HANG))
    gate = await serve((up, "claude"), (other, "mock"), first={"type": "anthropic"})
    assert (await gate.ask(chat(stream=True))).text == "w0 w1 w2 w3 w4 "
    await gate.record(status=200, target="p1/mock", output_tokens=5, estimated=None)


@pytest.mark.parametrize(
    ("error", "code"),
    [(OPENAI, "server_is_overloaded"), (RATE, "rate_limit_exceeded"), (BAD, None), (VLLM, "upstream_error")],
    ids=["overloaded", "rate", "client", "vllm"],
)
async def test_u21_an_error_after_content_is_one_error_event_with_its_code(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, error: dict[str, Any], code: str | None
) -> None:
    up.on(CHAT_PATH, broken_by(error, chat_chunk("late "), b"[DONE]"))
    gate = await serve((up, "mock"), (other, "mock"), model={"retries": 2})
    answer = await gate.ask(chat(stream=True))
    assert (answer.failure["code"], answer.text) == (code, "one two ")
    record = await gate.record(status=200, estimated=True, error=code)
    assert record["stream_end"] not in (None, "ok")
    assert gate.count("lockgate_stream_end", record["stream_end"]) == 1
    assert len(record["attempts"]) == 1
    assert other.requests == []


async def test_u21_an_anthropic_error_after_content_is_one_error_event(serve: Serve, up: FaultUpstream) -> None:
    up.on("/v1/messages", broken_by(OVERLOADED, before=(ANTHROPIC_START, ANTHROPIC_OPEN, text_delta("one "), text_delta("two "))))
    gate = await serve((up, "claude"), first={"type": "anthropic"})
    answer = await gate.ask(chat(stream=True))
    assert answer.text == "one two "
    assert answer.failure["type"] == "upstream_error"
    await gate.record(status=200, estimated=True)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "content_block_delta", "index": "x", "delta": 5}, "upstream_bad_event"),
        ({"type": "content_block_delta", "index": 0, "delta": ["text_delta"]}, "upstream_bad_event"),
        ({"type": "message_delta", "delta": "end_turn", "usage": [1]}, "upstream_bad_event"),
    ],
)
async def test_u15_an_event_with_wrong_types_is_a_bad_event(serve: Serve, up: FaultUpstream, event: dict[str, Any], code: str) -> None:
    up.on("/v1/messages", broken_by(event, before=(ANTHROPIC_START, ANTHROPIC_OPEN, text_delta("one "), text_delta("two "))))
    gate = await serve((up, "claude"), first={"type": "anthropic"})
    answer = await gate.ask(chat(stream=True))
    assert (answer.text, answer.failure["code"]) == ("one two ", code)


async def test_u21_the_openai_package_raises_with_the_code_of_the_upstream(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, broken_by({"error": {"message": "exploded", "type": "server_error", "param": None, "code": "boom"}}))
    gate = await serve((up, "mock"))
    async with gate.openai_client() as client:
        stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "boom"


async def test_u36_missing_final_usage_of_anthropic_is_estimated(serve: Serve, up: FaultUpstream) -> None:
    ends = ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"})
    words = [text_delta(f"w{number} ") for number in range(30)]
    up.on("/v1/messages", sse(ANTHROPIC_START, ANTHROPIC_OPEN, *words, *ends))
    gate = await serve((up, "claude"), first={"type": "anthropic"})
    answer = await gate.ask(chat(stream=True))
    assert answer.text == answer_text(30)
    record = await gate.record(status=200, estimated=True)
    assert record["output_tokens"] >= 30


@pytest.mark.parametrize("n", [None, 2])
async def test_u23_an_endless_stream_ends_at_its_output_limit(serve: Serve, up: FaultUpstream, n: int | None) -> None:
    gate = await serve((up, "infinite"))
    fields = {} if n is None else {"n": n}
    answer = await gate.ask(chat(stream=True, max_tokens=50, **fields))
    assert answer.failure["code"] == "output_limit"
    limit = (50 * 1.1 + 64) * (n or 1)
    events = answer.text.count("more ")
    billed = 50 * (n or 1)  # an estimate does not exceed the caller's own cap
    record = await gate.record(status=200, stream_end="limit", error="output_limit", estimated=True, output_tokens=billed)
    assert limit < events < limit + 5000  # events that arrive in the same read as the last allowed event are sent
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["limit"]
    assert gate.count("lockgate_stream_end", "limit") == 1
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u23_an_endless_stream_without_a_limit_ends_at_the_total_timeout(serve: Serve, up: FaultUpstream) -> None:
    async def stream_slowly(exchange: Any) -> None:
        await exchange.start_stream()
        while True:
            await exchange.event(chat_chunk("more "), tokens=1)
            await exchange.sleep(0.01)

    up.on(CHAT_PATH, stream_slowly)
    gate = await serve((up, "mock"), first={"timeout": "500ms"})
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["code"] == "upstream_timeout"
    record = await gate.record(status=200, stream_end="timeout", estimated=True)
    assert 0 < record["output_tokens"] <= up.requests[0].tokens
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u23_a_stream_that_reaches_its_limit_exactly_is_complete(serve: Serve, up: FaultUpstream) -> None:
    up.chunks = 300
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True, max_completion_tokens=300))
    assert answer.text.count("w") == 300
    await gate.record(status=200, stream_end="ok", finish=["length"], output_tokens=300, estimated=None)


FAULTS = [
    "fin-mid-stream", "rst-mid-stream", "end-without-finish", "bad-event", "error-mid-stream", "error-first-event", "endless-event",
    "infinite", "many-headers", "big-header", "html", "short-body", "double-done", "no-done", "fin-after-head", "stall-mid-stream",
]  # fmt: skip


async def test_u9_to_u24_do_not_disturb_other_streams(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    """Streams of one target are complete although every fault occurs at another target of the gateway."""
    up.chunks, up.delay = 60, 0.03
    targets = {f"f{number}": f"p1/{name}" for number, name in enumerate(FAULTS)}
    gate = await serve((up, "mock"), (other, "mock"), every={"idle_timeout": "1s"}, more=targets)
    other_streams = [asyncio.create_task(gate.ask(chat(stream=True))) for _ in range(3)]
    await up.wait_for(lambda up: sum(request.events > 3 for request in up.requests) == 3)
    await asyncio.gather(*(gate.ask(chat(name, stream=True, max_tokens=20)) for name in targets))
    for stream in other_streams:
        answer = await stream
        assert answer.text == answer_text(60)
        assert answer.events[-1] == b"[DONE]"
    records = await gate.records(len(FAULTS) + 3)
    assert sum(record["model"] == "m" and record["output_tokens"] == 60 for record in records) == 3


async def test_u11_an_incomplete_event_is_dropped_before_the_error_event(serve: Serve, up: FaultUpstream) -> None:
    complete_events = b"".join(b"data: " + json.dumps(word).encode() + b"\n\n" for word in WORDS)
    up.on(CHAT_PATH, play(SSE + chunked(complete_events), 0.1, chunked(b'data: {"id": "half'), 0.1, b"0\r\n\r\n"))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["code"] == "upstream_truncated"
    assert answer.text == "one two "
    assert b"half" not in answer.body

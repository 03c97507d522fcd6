"""Upstream faults before the first content: an HTTP error, or a fallback to the next target."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.http.caller import CallerDeadlines
from tests.faults.behaviours import JSON, canned, chat_chunk, sse
from tests.faults.chat_script import answer_text
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import EACH_FORM, Gate, Serve
from tests.faults.tls import TLS_FAULTS, Certificates, TlsFault
from tests.faults.upstream_server import (
    HANG,
    FaultUpstream,
    closed_base_url,
    drip,
    play,
    status,
    unreachable_base_url,
)
from tests.running import Figure


async def assert_falls_back(gate: Gate, kind: str, other: FaultUpstream, stream: bool) -> None:
    """Check that a call falls back to the second target after a failure of `kind`, and returns only its answer."""
    answer = await gate.ask(chat(stream=stream))
    assert answer.status == 200
    assert answer.complete
    assert answer.header("x-gateway-target") == "p1/mock"
    assert answer.header("x-gateway-attempts") == "2"
    text = answer.text if stream else answer.json["choices"][0]["message"]["content"]
    assert text == "w0 w1 w2 w3 w4 "
    assert len(other.requests) == 1
    record = await gate.record(status=200, target="p1/mock", prompt_tokens=2, output_tokens=5, estimated=None)
    assert [attempt["outcome"] for attempt in record["attempts"]] == [kind, "ok"]
    assert gate.count("lockgate_fallbacks", "m") == 1
    assert gate.count("lockgate_upstream_errors", record["attempts"][0]["target"], kind) == 1


async def assert_refused(gate: Gate, number: int, code: str, kind: str, stream: bool = False) -> str:
    """Check that a call gets this HTTP error, and that record and metrics have the reason. Return the message."""
    answer = await gate.ask(chat(stream=stream))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (number, code, "upstream_error"), answer
    record = await gate.record(status=number, error=code, prompt_tokens=None, output_tokens=None)
    assert record["attempts"][-1]["outcome"] == kind
    assert record["target"] == record["attempts"][-1]["target"]
    assert gate.count("lockgate_upstream_errors", kind) == len(record["attempts"])
    assert gate.count("lockgate_requests", f"{number // 100}xx", code) == 1
    message: str = answer.error["message"]
    return message


@EACH_FORM
async def test_u1_a_refused_connection_is_502(serve: Serve, figure: Figure, stream: bool) -> None:
    gate = await serve((closed_base_url(), "mock"))
    before = time.monotonic()
    await assert_refused(gate, 502, "upstream_connect_error", "connect", stream)
    record = (await gate.records(1))[0]
    figure("refused connection returned after", record["ms"], "ms")
    assert time.monotonic() - before < 5


@EACH_FORM
async def test_u1_a_refused_connection_falls_back_to_the_next_target(serve: Serve, other: FaultUpstream, stream: bool) -> None:
    await assert_falls_back(await serve((closed_base_url(), "mock"), (other, "mock")), "connect", other, stream)


async def test_u1_a_refused_connection_is_retried_on_the_same_target(serve: Serve) -> None:
    gate = await serve((closed_base_url(), "mock"), model={"retries": 2})
    await assert_refused(gate, 502, "upstream_connect_error", "connect")
    assert gate.count("lockgate_attempts", "p0/mock", "connect") == 3


async def test_u2_a_connect_timeout_is_504(serve: Serve, figure: Figure) -> None:
    with unreachable_base_url() as base_url:
        gate = await serve((base_url, "mock"), first={"connect": "400ms"})
        await assert_refused(gate, 504, "upstream_connect_timeout", "connect_timeout")
    took = (await gate.records(1))[0]["ms"]
    figure("timeout of 400 ms fired after", took, "ms")
    assert 360 <= took < 5000


async def test_u2_a_connect_timeout_does_not_disturb_another_stream(serve: Serve, other: FaultUpstream) -> None:
    other.chunks, other.delay = 20, 0.02
    with unreachable_base_url() as base_url:
        gate = await serve((base_url, "mock"), first={"connect": "200ms"})
        neighbour = await serve((other, "mock"))
        timed_out, streamed = await asyncio.gather(gate.ask(chat()), neighbour.ask(chat(stream=True)))
    assert timed_out.status == 504
    assert streamed.text == answer_text(20)


@pytest.fixture
async def bad_tls(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[FaultUpstream]:
    """Return an upstream with the TLS fault of the parameter."""
    async with FaultUpstream(tls=request.param, certificates=certificates) as server:
        yield server


@pytest.mark.parametrize(("bad_tls", "fault"), [(fault, fault) for fault in TLS_FAULTS], indirect=["bad_tls"])
async def test_u5_an_upstream_with_a_tls_fault_gets_no_request(
    serve: Serve, bad_tls: FaultUpstream, fault: TlsFault, trusted: Path
) -> None:
    gate = await serve((bad_tls, "mock"), first={"ca": str(trusted), "tls": "500ms"}, model={"retries": 2})
    stalls = fault == "stall"
    await assert_refused(gate, 504 if stalls else 502, "upstream_tls_error", "tls_timeout" if stalls else "tls")
    assert bad_tls.requests == []
    assert bad_tls.ledger.accepted <= 1
    await bad_tls.wait_for(lambda up: up.ledger.open == 0)


async def test_u5_an_unconfigured_certificate_authority_is_not_trusted(serve: Serve, certificates: Certificates, trusted: Path) -> None:
    async with FaultUpstream(tls="good", certificates=certificates) as server:
        gate = await serve((server, "mock"))
        assert (await gate.ask(chat())).error["code"] == "upstream_tls_error"
        assert server.requests == []
        gate = await serve((server, "mock"), first={"ca": str(trusted)})
        assert (await gate.ask(chat())).status == 200


async def test_u6_a_first_byte_timeout_is_504_and_closes_the_connection(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    gate = await serve((up, "silent"), first={"first_byte_timeout": "200ms"})
    await assert_refused(gate, 504, "upstream_timeout", "header_timeout")
    await up.wait_for(lambda up: up.ledger.open == 0)
    closed = up.ledger.links[0].closed
    assert closed is not None
    figure("upstream connection closed, with a timeout of 200 ms, after", (closed - up.requests[0].at) * 1000, "ms")
    assert len(up.requests) == 1


@EACH_FORM
async def test_u6_a_first_byte_timeout_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, stream: bool
) -> None:
    gate = await serve((up, "silent"), (other, "mock"), first={"first_byte_timeout": "200ms"})
    await assert_falls_back(gate, "header_timeout", other, stream)
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u7_a_dripping_head_does_not_extend_the_timeout(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, drip(sse(chat_chunk("late")), 0.05))
    gate = await serve((up, "mock"), first={"timeout": "400ms"})
    await assert_refused(gate, 504, "upstream_timeout", "timeout")
    assert (await gate.records(1))[0]["ms"] < 5000
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u7_a_dripping_body_ends_at_the_total_timeout(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    drips: list[bytes | float] = [b" ", 0.05] * 500
    up.on(CHAT_PATH, play(JSON + b"content-length: 1000\r\n\r\n", *drips))
    gate = await serve((up, "mock"), first={"timeout": "500ms"})
    await assert_refused(gate, 504, "upstream_timeout", "timeout")
    took = (await gate.records(1))[0]["ms"]
    figure("timeout of 500 ms fired after", took, "ms")
    assert 450 <= took < 5000
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u8_silence_after_the_headers_is_504(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "silent-after-head"), first={"idle_timeout": "200ms"})
    await assert_refused(gate, 504, "upstream_timeout", "ttft_timeout", stream=True)
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u8_silence_after_the_headers_falls_back_to_the_next_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "silent-after-head"), (other, "mock"), first={"idle_timeout": "200ms"})
    await assert_falls_back(gate, "ttft_timeout", other, stream=True)


async def test_u8_silence_after_a_role_chunk_falls_back_to_the_next_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.on(CHAT_PATH, sse(chat_chunk("", role="assistant"), chat_chunk(role="assistant"), ending=HANG))
    gate = await serve((up, "mock"), (other, "mock"), first={"idle_timeout": "200ms"})
    await assert_falls_back(gate, "ttft_timeout", other, stream=True)


async def test_u8_no_heartbeat_is_sent_before_the_first_content(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "silent-after-head"), first={"idle_timeout": "600ms"}, caller=CallerDeadlines(heartbeat=0.05))
    await assert_refused(gate, 504, "upstream_timeout", "ttft_timeout", stream=True)


@pytest.mark.parametrize("behaviour", ["fin-before-head", "rst-before-head", "fin-after-head", "rst-after-head"])
async def test_u10_a_close_before_the_first_event_is_502(serve: Serve, up: FaultUpstream, behaviour: str) -> None:
    gate = await serve((up, behaviour))
    await assert_refused(gate, 502, "upstream_closed", "closed_pre", stream=True)
    assert len(up.requests) == 1


@pytest.mark.parametrize("behaviour", ["fin-before-head", "rst-before-head", "fin-after-head", "rst-after-head"])
async def test_u10_a_close_before_the_first_event_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, behaviour: str
) -> None:
    gate = await serve((up, behaviour), (other, "mock"))
    await assert_falls_back(gate, "closed_pre", other, stream=True)
    assert len(up.requests) == 1


@pytest.mark.parametrize("behaviour", ["fin-mid-stream", "rst-mid-stream"])
async def test_u10_a_close_after_the_first_event_does_not_fall_back(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, behaviour: str
) -> None:
    gate = await serve((up, behaviour), (other, "mock"), model={"retries": 2})
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["type"] == "upstream_error"
    assert answer.text == "one two "
    assert (len(up.requests), other.requests) == (1, [])
    assert gate.count("lockgate_fallbacks") == 0


REASONS = {
    "bad-json": ": it is not valid JSON in UTF-8", "empty": ": it is empty", "html": ": it is not valid JSON in UTF-8", "array": "",
    "not-text": ": it is not valid JSON in UTF-8", "no-message": ": choices[0] has neither an object 'message' nor a string 'text'",
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "reason"), REASONS.items())
async def test_u14_an_invalid_answer_is_502_with_the_reason_and_not_echoed(
    serve: Serve, up: FaultUpstream, behaviour: str, reason: str
) -> None:
    gate = await serve((up, behaviour))
    message = await assert_refused(gate, 502, "upstream_bad_response", "bad_body")
    assert message == f"p0/{behaviour}: the answer is not a chat completion{reason}"


@EACH_FORM
@pytest.mark.parametrize("behaviour", ["bad-json", "empty", "html", "array", "not-text", "no-message"])
async def test_u14_an_invalid_answer_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, behaviour: str, stream: bool
) -> None:
    await assert_falls_back(await serve((up, behaviour), (other, "mock")), "bad_body", other, stream)


MESSAGE = {"role": "assistant", "content": "one"}
WRONG_TYPES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "message is a list": ("openai-compatible", "/chat/completions", {"choices": [{"message": [1], "finish_reason": "stop"}]}, {}),
    "logprobs is a string": (
        "openai-compatible",
        "/chat/completions",
        {"choices": [{"message": MESSAGE, "logprobs": "none", "finish_reason": "stop"}]},
        {"stop": ["ne"]},
    ),
    "tool_calls is a number": (
        "mistral",
        "/chat/completions",
        {"choices": [{"message": {**MESSAGE, "tool_calls": 10**20}, "finish_reason": "stop"}]},
        {},
    ),
    "content block is null": ("anthropic", "/messages", {"id": "m", "type": "message", "content": [None], "stop_reason": "end_turn"}, {}),
    "tool calls are strings": (
        "cohere",
        "/chat",
        {"id": "c", "message": {**MESSAGE, "tool_calls": ["x"]}, "finish_reason": "COMPLETE"},
        {},
    ),
}
"""Answers with one value of a wrong type: provider type, path, answer and fields of the request."""


@pytest.mark.parametrize("case", WRONG_TYPES)
async def test_u14_an_answer_with_wrong_types_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, case: str
) -> None:
    kind, path, body, fields = WRONG_TYPES[case]
    up.on("/v1" + path, canned(json.dumps(body).encode()))
    gate = await serve((up, "mock"), (other, "mock"), first={"type": kind})
    answer = await gate.ask(chat(**fields))
    assert (answer.status, answer.header("x-gateway-target")) == (200, "p1/mock"), answer
    assert up.requests[-1].path == "/v1" + path


@EACH_FORM
@pytest.mark.parametrize("behaviour", ["many-headers", "big-header", "endless-interim"])
async def test_u24_unbounded_headers_are_502(serve: Serve, up: FaultUpstream, behaviour: str, stream: bool) -> None:
    gate = await serve((up, behaviour), first={"first_byte_timeout": "5s"})
    await assert_refused(gate, 502, "upstream_bad_response", "protocol", stream)
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u24_an_upstream_that_does_not_speak_http_falls_back_to_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream
) -> None:
    up.on(CHAT_PATH, play(b"SSH-2.0-OpenSSH_9.2\r\n", HANG))
    await assert_falls_back(await serve((up, "mock"), (other, "mock")), "protocol", other, stream=False)


async def test_u6_the_openai_package_raises_internal_server_error_after_a_timeout(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "silent"), first={"first_byte_timeout": "200ms"})
    async with gate.openai_client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


async def test_an_invalid_request_does_not_fall_back(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.on(CHAT_PATH, status(400, "no such thing", type="invalid_request_error", param="messages"))
    gate = await serve((up, "mock"), (other, "mock"))
    answer = await gate.ask(chat())
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, None, "messages")
    assert answer.error["message"] == "no such thing"
    assert other.requests == []
    await gate.record(status=400, target="p0/mock")


async def test_unknown_upstream_error_codes_do_not_multiply_metric_series(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for number in range(150):
        up.once(status(400, "no", type="invalid_request_error", code=f"made-up-{number}"))
        assert (await gate.ask(chat())).error["code"] == f"made-up-{number}"
    series = gate.gateway.metrics.counts["lockgate_requests"]
    assert len(series) <= 101
    assert series["m", "p0/mock", "p0", "chat", "4xx", "other"] == 50

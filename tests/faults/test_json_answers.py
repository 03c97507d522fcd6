"""JSON answers and their connections: no truncated answer, no repeated request, no bytes of another call."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.faults.behaviours import JSON, SSE, chunked, completion
from tests.faults.client import CHAT_PATH, FaultClient, chat
from tests.faults.conftest import Serve
from tests.faults.upstream_server import FIN, HANG, RST, Exchange, FaultUpstream, play


def with_length(body: bytes, promised: int | None = None) -> bytes:
    """Return an answer with its content-length, or with the length `promised`."""
    return JSON + b"content-length: %d\r\n\r\n" % (len(body) if promised is None else promised) + body


HALF = completion("half an answer")[:60]


@pytest.mark.parametrize(
    "wire",
    [with_length(HALF, 1000), with_length(completion("all"), 1000), SSE + b"100\r\n" + HALF, SSE + chunked(HALF)],
    ids=["length", "length-after-valid-json", "chunk", "chunks"],
)
@pytest.mark.parametrize("ending", [FIN, RST], ids=["fin", "rst"])
async def test_u13_a_truncated_body_is_502_and_not_echoed(serve: Serve, up: FaultUpstream, wire: bytes, ending: Any) -> None:
    up.on(CHAT_PATH, play(wire, ending))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat())
    kind = "truncated" if ending is FIN else "reset"
    assert (answer.status, answer.error["code"]) == (502, f"upstream_{kind}")
    assert b"half" not in answer.body
    record = await gate.record(status=502, error=f"upstream_{kind}", output_tokens=None)
    assert [attempt["outcome"] for attempt in record["attempts"]] == [kind]
    assert gate.count("lockgate_upstream_errors", kind) == 1
    assert len(up.requests) == 1


async def test_u13_a_truncated_body_falls_back_to_the_next_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "short-body"), (other, "mock"))
    assert (await gate.ask(chat())).content == "w0 w1 w2 w3 w4 "
    await gate.record(status=200, target="p1/mock", output_tokens=5)


async def test_u38_a_call_on_a_stale_connection_is_resent(serve: Serve, up: FaultUpstream) -> None:
    async def answer_first_request(exchange: Exchange) -> None:
        if exchange.link.requests > 1:
            exchange.fin()
        await exchange.send(with_length(completion(f"from {exchange.link.number}")))

    up.on(CHAT_PATH, answer_first_request)
    gate = await serve((up, "mock"))
    assert [(await gate.ask(chat())).content for _ in range(5)] == [f"from {number}" for number in range(5)]
    records = await gate.records(5)
    assert all(len(record["attempts"]) == 1 for record in records)
    assert gate.metric("lockgate_upstream_stale_retries_total") == 4
    assert len(up.requests) == 9
    assert gate.count("lockgate_tokens", "output") == 5


async def test_u38_a_request_that_may_have_been_processed_is_not_resent(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    assert (await gate.ask(chat())).status == 200
    up.on(CHAT_PATH, play(b"HTTP/1.1 2", FIN))
    assert (await gate.ask(chat())).error["code"] == "upstream_closed"
    await gate.records(2)
    assert len(up.requests) == 2
    assert gate.metric("lockgate_upstream_stale_retries_total") == 0


@pytest.mark.parametrize("ending", [HANG, FIN, RST], ids=["open", "fin", "rst"])
@pytest.mark.parametrize(("number", "expected", "code"), [(413, 413, "too_long"), (401, 502, "upstream_auth_error")])
async def test_u39_an_error_during_the_upload_is_returned_and_the_connection_closed(
    serve: Serve, up: FaultUpstream, number: int, expected: int, code: str, ending: Any
) -> None:
    body = b'{"error":{"message":"not this","type":"invalid_request_error","param":null,"code":"too_long"}}'
    head = b"HTTP/1.1 %d Early\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (number, len(body))
    up.on(CHAT_PATH, play(head + body, ending), early=True)
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(user="x" * (24 << 20)))
    assert (answer.status, answer.error["code"]) == (expected, code)
    await gate.record(status=expected)
    assert gate.count("lockgate_upstream_errors", "request_too_large" if number == 413 else "auth") == 1
    assert gate.gateway.resources.native.idle == 0
    assert up.requests[0].body == b""
    assert len(up.requests) == 1


async def test_u39_interim_responses_are_skipped(serve: Serve, up: FaultUpstream) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    up.on(CHAT_PATH, play(interim, 0.05, interim + with_length(completion("at last"))))
    answer = await (await serve((up, "mock"))).ask(chat())
    assert answer.content == "at last"
    assert answer.header("link") is None


SURPLUS = with_length(completion("of another call"))


@pytest.mark.parametrize(
    "steps",
    [
        (with_length(completion("mine")) + SURPLUS,),
        (with_length(completion("mine")), 0.05, SURPLUS),
        (with_length(completion("mine")) + b"garbage",),
        (with_length(completion("mine")) + b"\r\n",),
        (SSE.replace(b"text/event-stream", b"application/json") + chunked(completion("mine")) + b"0\r\n\r\n" + SURPLUS,),
    ],
    ids=["answer", "later", "garbage", "blank", "chunked"],
)
async def test_u40_surplus_bytes_never_reach_another_caller(serve: Serve, up: FaultUpstream, steps: tuple[bytes | float, ...]) -> None:
    up.once(play(*steps))
    gate = await serve((up, "mock"))
    assert (await gate.ask(chat())).content == "mine"
    await up.wait_for(lambda up: up.ledger.open == 0)
    up.on(CHAT_PATH, play(with_length(completion("the second"))))
    assert (await gate.ask(chat())).content == "the second"
    assert up.requests[0].link is not up.requests[1].link
    assert gate.metric("lockgate_upstream_poisoned_total") == 1
    await gate.records(2)


async def test_u40_surplus_bytes_after_a_stream_never_reach_another_caller(serve: Serve, up: FaultUpstream) -> None:
    events = b'data: {"choices":[{"index":0,"delta":{"content":"mine"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    up.once(play(SSE + chunked(events) + b"0\r\n\r\n" + SURPLUS))
    gate = await serve((up, "mock"))
    assert (await gate.ask(chat(stream=True))).text == "mine"
    up.on(CHAT_PATH, play(with_length(completion("the second"))))
    assert (await gate.ask(chat())).content == "the second"
    assert up.requests[0].link is not up.requests[1].link


async def test_u43_cookies_pass_in_neither_direction(serve: Serve, up: FaultUpstream) -> None:
    body = completion("x")
    head = JSON + b"set-cookie: session=secret\r\ncontent-length: %d\r\n\r\n" % len(body)
    up.on(CHAT_PATH, play(head + body))
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        for _ in range(2):
            await client.post(chat(), [("cookie", "mine=1")])
            answer = await client.answer()
            assert answer.status == 200
            assert "cookie" not in str(answer.headers)
    assert all(request.header("cookie") is None for request in up.requests)


async def test_u13_the_openai_package_raises_for_a_truncated_answer(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "short-body"))
    async with gate.openai_client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "upstream_truncated"

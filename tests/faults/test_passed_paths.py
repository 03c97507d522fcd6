"""Passed calls whose caller or upstream stalls, disconnects or breaks the framing, and attacks on their framing and paths."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.http.caller import CallerDeadlines
from gateway.http.cycle import RequestCycle
from tests.faults.client import Answer, FaultClient, request_head
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FIN, HANG, RST, Exchange, FaultUpstream, canned, play
from tests.flows.live import eventually

TOP = {"passthrough": {"/v1/files/*": {"provider": "p0", "max_body": "64MiB"}, "/v1/small": {"provider": "p0", "max_body": "1KiB"}}}
FILES = "/v1/files"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n"


async def gate_of(serve: Serve, up: FaultUpstream, caller: CallerDeadlines | None = None, **first: str) -> Gate:
    """Return a gateway that passes files."""
    return await serve((up, "mock"), top=TOP, first=first, caller=caller)


async def send_all(client: FaultClient, size: int, piece: bytes = b"x" * 65536) -> int:
    """Send a body of `size` bytes in pieces. Return the number of bytes sent."""
    sent = 0
    while sent < size:
        await client.send(piece[: size - sent])
        sent += min(len(piece), size - sent)
    return sent


async def reading(exchange: Exchange) -> None:
    """Read the request until its sender disconnects, and send no answer."""
    while True:
        await exchange.read_for(0.005)


async def get(gate: Gate, path: str = FILES + "/1") -> Answer:
    """Make one GET on a new connection."""
    async with await FaultClient.connect(gate.port) as client:
        await client.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return await client.answer()


async def test_an_upload_waits_for_a_slow_upstream_and_the_caller_is_not_blamed(serve: Serve, up: FaultUpstream) -> None:
    release, size = asyncio.Event(), 24 << 20

    async def slow(exchange: Exchange) -> None:
        await release.wait()
        while await exchange.read_for(0.01) < size:
            pass
        await canned(b"{}")(exchange)
        exchange.fin()

    up.on(lambda request: True, slow, early=True)
    gate = await gate_of(serve, up, CallerDeadlines(body=0.2))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(size, path=FILES))
        sending = asyncio.create_task(send_all(client, size))
        await asyncio.sleep(0.6)  # three times the deadline of a caller's body
        assert not sending.done()
        release.set()
        assert await sending == size
        assert (await client.answer()).status == 200
    await gate.record(status=200, request_bytes=size)


async def test_a_caller_that_disconnects_during_its_upload_ends_the_upstream_request(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, reading, early=True)
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(1000, path=FILES) + b"x" * 100)
        await up.wait_for(lambda server: len(server.requests) == 1)
        client.rst()
        await up.wait_for(lambda server: server.ledger.open == 0)
    record = await gate.record(status=499, aborted="pre")
    assert record["attempts"][0]["outcome"] == "left"
    assert gate.count("lockgate_attempts", "left") == 1
    assert gate.count("lockgate_unanswered_disconnects") == 0, "the target waits for the rest of the upload"


async def test_a_caller_that_disconnects_before_the_answer_is_counted(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, play(HANG))
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(b"GET /v1/files/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await up.wait_for(lambda server: len(server.requests) == 1)
        client.rst()
        await up.wait_for(lambda server: server.ledger.open == 0)
    await gate.record(status=499, aborted="pre")
    assert gate.count("lockgate_attempts", "left") == gate.count("lockgate_unanswered_disconnects") == 1


async def test_a_caller_that_stalls_during_its_upload_gets_408(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, reading, early=True)
    gate = await gate_of(serve, up, CallerDeadlines(body=0.1))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(1000, path=FILES) + b"x" * 100)
        answer = await client.answer()
        assert (answer.status, answer.error["code"], answer.header("connection")) == (408, "request_timeout", "close")
    await up.wait_for(lambda server: server.ledger.open == 0)


@pytest.mark.parametrize("status", [401, 413, 503])
async def test_an_early_answer_reaches_the_caller_before_its_upload_is_complete(serve: Serve, up: FaultUpstream, status: int) -> None:
    body = b'{"error":{"message":"theirs"}}'
    early = b"HTTP/1.1 %d Early\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))

    async def answer_early(exchange: Exchange) -> None:
        await exchange.send(early + body)
        await reading(exchange)

    up.on(lambda request: True, answer_early, early=True)
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(1 << 20, path=FILES) + b"x" * 1000)
        answer = await client.answer()
        assert (answer.status, answer.body, answer.complete) == (status, body, True)
    await up.wait_for(lambda server: server.ledger.open == 0)
    await gate.record(status=status, target="p0/v1/files/*")


async def test_an_answer_that_begins_during_the_upload_runs_beside_it(serve: Serve, up: FaultUpstream) -> None:
    async def both(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(b"1")
        while await exchange.read_for(0.005) < 100:
            pass
        await exchange.event(b"2")
        await exchange.chunk(b"")
        exchange.fin()

    up.on(lambda request: True, both, early=True)
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(100, path=FILES) + b"x" * 50)
        await client.read_until(b"data: 1")
        await client.send(b"x" * 50)
        assert (await client.answer()).body == b"data: 1\n\ndata: 2\n\n"
    await gate.record(status=200, request_bytes=100)


@pytest.mark.parametrize("end", [FIN, RST], ids=["fin", "rst"])
async def test_an_upstream_that_closes_during_the_upload_is_502(serve: Serve, up: FaultUpstream, end: object) -> None:
    up.on(lambda request: True, play(end), early=True)  # type: ignore[arg-type]
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(1 << 20, path=FILES) + b"x" * 1000)
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (502, "upstream_closed")
    assert len(up.requests) == 1


BROKEN = {
    "length": HEAD + b"content-length: 100\r\n\r\n0123456789",
    "chunks": HEAD + b"transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n",
}


@pytest.mark.parametrize("head", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("end", [FIN, RST, HANG], ids=["fin", "rst", "hang"])
async def test_an_answer_that_breaks_off_does_not_look_complete(serve: Serve, up: FaultUpstream, head: bytes, end: object) -> None:
    up.on(lambda request: True, play(head, 0.02, end))  # type: ignore[arg-type]
    gate = await gate_of(serve, up, idle_timeout="150ms")
    async with await FaultClient.connect(gate.port) as client:
        await client.send(b"GET /v1/files/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.complete) == (200, False)
        assert b"0123456789".startswith(answer.body)
        await client.until_closed()
    (record,) = await gate.records(1)
    assert record["error"] in ("upstream_truncated", "upstream_reset", "upstream_stalled")
    assert record["stream_end"] == record["attempts"][0]["outcome"]


async def test_a_caller_that_disconnects_during_a_download_ends_the_upstream_request(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, play(HEAD + b"content-length: 1000000\r\n\r\n" + b"x" * 5000, HANG))
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(b"GET /v1/files/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await client.read_until(b"x" * 5000)
        client.rst()
    await up.wait_for(lambda server: server.ledger.open == 0)
    await gate.record(status=499, aborted="mid")
    assert gate.count("lockgate_attempts", "left") == 1
    assert gate.count("lockgate_unanswered_disconnects") == 0


async def test_a_download_waits_for_a_caller_that_reads_slowly(serve: Serve, up: FaultUpstream) -> None:
    size = 32 << 20

    async def large(exchange: Exchange) -> None:
        await exchange.send(HEAD + b"content-length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            await exchange.send(b"x" * 65536)

    up.on(lambda request: True, large)
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port, receive_buffer=65536) as client:
        await client.send(b"GET /v1/files/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await client.read_some()
        await asyncio.sleep(0.3)
        assert up.requests[0].sent < size  # the gateway has not read it all
        client.rst()
    await up.wait_for(lambda server: server.ledger.open == 0)


async def test_an_upstream_that_does_not_answer_is_504(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, play(HANG))
    gate = await gate_of(serve, up, first_byte_timeout="80ms")
    assert (await get(gate)).status == 504
    await gate.record(status=504, error="upstream_timeout")


async def test_a_caller_that_waits_for_permission_gets_it_only_for_a_request_that_is_passed(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, canned(b"{}"))
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(2000, (("expect", "100-continue"),), "/v1/small"))
        assert (await client.answer()).status == 413
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(3, (("expect", "100-continue"),), FILES))
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).status == 200
    assert [(request.body, request.header("expect")) for request in up.requests] == [(b"abc", None)]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_body_over_its_own_limit_is_413(serve: Serve, up: FaultUpstream, chunked: bool) -> None:
    up.on(lambda request: True, reading, early=True)
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        body = b"800\r\n" + b"x" * 2048 + b"\r\n" if chunked else b""
        await client.send(request_head(None if chunked else 1025, path="/v1/small") + body)
        answer = await client.answer()
        assert (answer.status, answer.error["code"], answer.header("connection")) == (413, "request_too_large", "close")
    await up.wait_for(lambda server: server.ledger.open == 0)


async def test_a_shutdown_breaks_off_a_response_that_has_begun(serve: Serve, up: FaultUpstream) -> None:
    up.on(lambda request: True, play(HEAD + b"transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n", HANG))
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(b"GET /v1/files/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await client.read_until(b"0123456789")
        (task,) = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == RequestCycle.run.__qualname__]
        task.cancel()
        answer = await client.answer()
        assert (answer.body, answer.complete) == (b"0123456789", False)
    await gate.record(stream_end="drain", error="server_shutting_down")


BODY = b'{"a":1}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
SMUGGLED = b"GET /v1/files/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
START = b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\n"
AMBIGUOUS = {
    "length and chunks": LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": LENGTH + b"content-length: 0\r\n\r\n" + BODY + SMUGGLED,
    "a list of lengths": b"content-length: 7, 7\r\n\r\n" + BODY,
    "two encodings": CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "gzip, chunked": b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "signed length": b"content-length: +7\r\n\r\n" + BODY,
    "space before colon": b"content-length : 7\r\n\r\n" + BODY,
    "chunk size with sign": CHUNKED + b"\r\n-1\r\n" + BODY,
    "chunk without end": CHUNKED + b"\r\n1\r\nxx0\r\n\r\n" + SMUGGLED,
    "bare line feed": b"x-a: b\n" + LENGTH + b"\r\n" + BODY,
    "two hosts": b"host: other\r\n" + LENGTH + b"\r\n" + BODY,
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n\r\n",
}


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_ambiguous_framing_passes_no_request(serve: Serve, up: FaultUpstream, rest: bytes) -> None:
    gate = await gate_of(serve, up)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(START + rest)
        answer = await client.answer()
        await client.until_closed()
    assert answer.status in (400, 426), answer
    assert [request for request in up.requests if request.finished] == []


async def test_trailers_and_framing_of_the_caller_are_not_passed(serve: Serve, up: FaultUpstream) -> None:
    gate = await gate_of(serve, up)
    chunked = b"7;ext=1\r\n" + BODY + b"\r\n0\r\nauthorization: Bearer x\r\nx-trailer: 1\r\n\r\n"
    up.on(lambda request: True, canned(b"{}"))
    async with await FaultClient.connect(gate.port) as client:
        hops = b"connection: x-hop, content-length, authorization\r\nx-hop: 1\r\nte: trailers\r\ntrailer: x-trailer\r\n"
        await client.send(START + hops + CHUNKED + b"\r\n" + chunked + START + LENGTH + b"\r\n" + BODY)
        assert [(await client.answer()).status, (await client.answer()).status] == [200, 200]
    first, second = up.requests
    assert (first.body, second.body) == (BODY, BODY)
    assert (first.header("transfer-encoding"), second.header("content-length")) == ("chunked", "7")
    names = {name for name, _ in first.headers}
    assert names == {"host", "accept-encoding", "transfer-encoding", "user-agent", "authorization"}


async def test_a_body_that_looks_like_a_request_stays_a_body(serve: Serve, up: FaultUpstream) -> None:
    gate = await gate_of(serve, up)
    up.on(lambda request: True, canned(b"{}"))
    async with await FaultClient.connect(gate.port) as client:
        for body in (SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"%x\r\n" % len(SMUGGLED) + SMUGGLED):
            await client.send(START + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert (await client.answer()).status == 200
            await client.send(START + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            assert (await client.answer()).status == 200
            assert [request.body for request in up.requests[-2:]] == [body, body]
    assert [request.path for request in up.requests] == ["/v1/files"] * 6


SPLIT = {
    "length and chunks": b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 2\r\ncontent-length: 5\r\n\r\n{}",
    "two answers": b"content-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen",
}


@pytest.mark.parametrize("rest", SPLIT.values(), ids=SPLIT)
async def test_an_upstream_cannot_answer_the_next_call(serve: Serve, up: FaultUpstream, rest: bytes) -> None:
    up.on(lambda request: True, canned(b'"mine"'))
    up.once(play(b"HTTP/1.1 200 OK\r\n" + rest, HANG))
    gate = await gate_of(serve, up)
    first, second = await get(gate), await get(gate)
    assert first.status == 502 or first.body in (b"{}", b""), first
    assert second.body == b'"mine"'
    await eventually(lambda: up.ledger.open <= 1)


async def test_a_path_outside_its_pattern_is_never_sent(serve: Serve, up: FaultUpstream) -> None:
    gate = await gate_of(serve, up)
    attacks = ["/v1/files/../chat", "/v1/files/%2e%2e/chat", "/v1/files/..%2f..", "/v1/files//x", "/v1/files/%5c..", "/v1/files/..;/x"]
    for path in attacks:
        answer = await get(gate, path)
        assert (answer.status, answer.error["code"]) == (400, "invalid_path"), path
    for path in ("/v1/%66iles/x", "/v1/filesx", "/V1/files", "/v1%2ffiles/x", "/./v1/files", "/v1/x/../files/1"):
        assert (await get(gate, path)).status == 404, path
    absolute = await get(gate, "http://evil.test/v1/files/%2e%2e/x")
    assert (absolute.status, up.requests) == (400, [])
    assert json.loads(absolute.body)["error"]["type"] == "invalid_request_error"

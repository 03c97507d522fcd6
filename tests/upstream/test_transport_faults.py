"""Upstream faults as each transport handles them."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from typing import Any

import pytest
from msgspec import structs

from benchmarks.ports import free_port
from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, Response, Transport, UpstreamError
from tests.faults.behaviours import JSON, SSE, Step, chunked, sse
from tests.faults.tls import TLS_FAULTS, Certificates, TlsFault
from tests.faults.upstream_server import FIN, HANG, RST, Exchange, FaultUpstream, canned, drip, full_backlog, play
from tests.upstream.conftest import BRISK, origin_of, request_for

LIMIT = 1 << 20


async def fail_to_send(transport: Transport, origin: Origin, model: str = "mock", deadlines: Deadlines = BRISK) -> UpstreamError:
    """Return the error of a call that gets no response head."""
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin, request_for(model), deadlines)
    return caught.value


async def fail_to_read(response: Response) -> tuple[bytes, UpstreamError]:
    """Return the part of a response that was read before it failed, and the error."""
    pieces: list[bytes] = []

    async def read_all() -> None:
        while piece := await response.read():
            pieces.append(piece)

    with pytest.raises(UpstreamError) as caught:
        await read_all()
    with pytest.raises(UpstreamError):
        await response.read()
    response.close()
    return b"".join(pieces), caught.value


async def test_u1_a_closed_port_is_refused_at_once(transport: Transport) -> None:
    error = await fail_to_send(transport, Origin("http", "127.0.0.1", free_port()))
    assert error.kind == "connect"


async def test_u2_a_full_backlog_ends_at_the_connect_deadline(transport: Transport) -> None:
    with full_backlog() as port:
        before = time.monotonic()
        error = await fail_to_send(transport, Origin("http", "127.0.0.1", port), deadlines=Deadlines(connect=0.6))
        took = time.monotonic() - before
    assert error.kind == "connect_timeout"
    assert 0.54 <= took < 15


@pytest.mark.parametrize("fault", TLS_FAULTS)
async def test_u5_a_bad_certificate_or_handshake_is_rejected(transport: Transport, certificates: Certificates, fault: TlsFault) -> None:
    deadlines = Deadlines(connect=1.0, tls=1.0) if fault == "stall" else BRISK
    async with FaultUpstream(tls=fault, certificates=certificates) as up:
        error = await fail_to_send(transport, origin_of(up, certificates.ca), deadlines=deadlines)
        assert error.kind == ("tls_timeout" if fault == "stall" else "tls")
        assert up.requests == []
        await up.wait_for(lambda up: up.ledger.open == 0)
        assert up.ledger.accepted <= 1


async def test_u5_an_authority_that_is_not_configured_is_not_trusted(transport: Transport, certificates: Certificates) -> None:
    async with FaultUpstream(tls="good", certificates=certificates) as up:
        assert (await fail_to_send(transport, origin_of(up))).kind == "tls"
        assert up.requests == []


async def test_u5_a_port_without_tls_is_a_tls_error(transport: Transport, up: FaultUpstream) -> None:
    up.on(lambda request: True, play(b"HTTP/1.1 200 OK\r\n\r\n", FIN))
    error = await fail_to_send(transport, Origin("https", "127.0.0.1", up.port), deadlines=Deadlines(connect=0.5, tls=0.5))
    assert error.kind in ("tls", "tls_timeout")


async def test_u6_silence_before_the_head_ends_at_the_first_byte_deadline(transport: Transport, up: FaultUpstream) -> None:
    error = await fail_to_send(transport, origin_of(up), "silent", Deadlines(first_byte=0.3))
    assert error.kind == "header_timeout"
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert up.ledger.accepted == 1


async def test_u7_a_dripping_head_does_not_extend_the_deadline(transport: Transport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", drip(canned(b"{}"), 0.05))
    error = await fail_to_send(transport, origin_of(up), deadlines=structs.replace(BRISK, first_byte=0.25))
    assert error.kind == "header_timeout"
    error = await fail_to_send(transport, origin_of(up), deadlines=structs.replace(BRISK, total=0.25))
    assert error.kind == "timeout"
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u7_a_dripping_body_ends_at_the_total_deadline(transport: Transport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", play(JSON + b"content-length: 1000\r\n\r\n", *list[Step]([b" ", 0.05]) * 500))

    async def read_all() -> None:  # on a slow machine the deadline may pass before the head arrives: the error is the same
        response = await transport.send(origin_of(up), request_for(), structs.replace(BRISK, total=0.6))
        await response.body(LIMIT)

    with pytest.raises(UpstreamError) as caught:
        await read_all()
    assert caught.value.kind == "timeout"
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u8_silence_after_the_head_is_distinguished_from_a_stall(transport: Transport, up: FaultUpstream) -> None:
    response = await transport.send(origin_of(up), request_for("silent-after-head"), Deadlines(idle=0.3))
    data, error = await fail_to_read(response)
    assert (data, error.kind) == (b"", "ttft_timeout")
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u9_a_stall_in_the_middle_ends_at_the_idle_deadline(transport: Transport, up: FaultUpstream) -> None:
    response = await transport.send(origin_of(up), request_for("stall-mid-stream"), Deadlines(idle=0.3))
    data, error = await fail_to_read(response)
    assert b"two " in data
    assert error.kind == "stalled"
    await up.wait_for(lambda up: up.ledger.open == 0)


@pytest.mark.parametrize("behaviour", ["fin-before-head", "rst-before-head"])
async def test_u10_a_close_before_the_head_is_closed_pre(transport: Transport, up: FaultUpstream, behaviour: str) -> None:
    assert (await fail_to_send(transport, origin_of(up), behaviour)).kind == "closed_pre"
    assert len(up.requests) == 1


@pytest.mark.parametrize("behaviour", ["fin-after-head", "rst-after-head"])
async def test_u10_a_close_after_the_head_is_closed_pre(transport: Transport, up: FaultUpstream, behaviour: str) -> None:
    response = await transport.send(origin_of(up), request_for(behaviour), BRISK)
    data, error = await fail_to_read(response)
    assert (data, error.kind) == (b"", "closed_pre")


@pytest.mark.parametrize(("behaviour", "kind"), [("fin-mid-stream", "truncated"), ("rst-mid-stream", "reset")])
async def test_u12_a_close_in_the_middle_is_never_a_clean_end(transport: Transport, up: FaultUpstream, behaviour: str, kind: str) -> None:
    response = await transport.send(origin_of(up), request_for(behaviour), BRISK)
    data, error = await fail_to_read(response)
    assert b"one " in data
    assert error.kind == kind


@pytest.mark.parametrize("wire", [JSON + b'content-length: 1000\r\n\r\n{"id":', SSE + b"6\r\n{'id':", SSE + chunked(b'{"id":') + b"0\r\n"])
async def test_u13_a_body_shorter_than_promised_is_truncated(transport: Transport, up: FaultUpstream, wire: bytes) -> None:
    up.on("/v1/chat/completions", play(wire, FIN))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    with pytest.raises(UpstreamError) as caught:
        await response.body(LIMIT)
    assert caught.value.kind == "truncated"


async def test_u22_an_endless_event_is_held_back_at_the_upstream(transport: Transport, up: FaultUpstream) -> None:
    response = await transport.send(origin_of(up), request_for("endless-event"), BRISK)
    seen = len(await response.read())
    assert await up.settled() < 32 << 20
    while seen < 1 << 20:
        piece = await response.read()
        assert len(piece) <= 256 * 1024
        seen += len(piece)
    response.close()
    await up.wait_for(lambda up: up.ledger.open == 0)


@pytest.mark.parametrize("behaviour", ["many-headers", "big-header", "endless-interim"])
async def test_u24_excessive_headers_are_rejected(transport: Transport, up: FaultUpstream, behaviour: str) -> None:
    error = await fail_to_send(transport, origin_of(up), behaviour)
    assert error.kind == "protocol"
    await up.wait_for(lambda up: up.ledger.open == 0)


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=["ssh", "tls-alert", "status", "negative-length", "two-lengths", "101"],
)
async def test_u24_an_invalid_response_is_a_protocol_error(transport: Transport, up: FaultUpstream, wire: bytes) -> None:
    up.on("/v1/chat/completions", play(wire, HANG))
    error = await fail_to_send(transport, origin_of(up), deadlines=Deadlines(first_byte=1.0))
    patient = isinstance(transport, HttpxTransport) and wire.startswith(b"SSH")  # h11 waits for a whole head before it parses
    assert error.kind == ("header_timeout" if patient else "protocol")
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u24_a_bad_chunk_in_the_middle_is_a_protocol_error(transport: Transport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", play(SSE + chunked(b"data: 1\n\n"), 0.05, b"zz\r\nnothing\r\n", HANG))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    data, error = await fail_to_read(response)
    assert (data, error.kind) == (b"data: 1\n\n", "protocol")


@pytest.mark.parametrize("flood", [b"5;" + b"x" * 300_000, b"0\r\nx-trailer: " + b"y" * 300_000], ids=["extension", "trailer"])
async def test_u24_endless_framing_without_data_is_cut_off(transport: Transport, up: FaultUpstream, flood: bytes) -> None:
    up.on("/v1/chat/completions", play(SSE + chunked(b"data: 1\n\n"), flood, HANG))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    data, error = await fail_to_read(response)
    assert (data, error.kind) == (b"data: 1\n\n", "protocol")
    await up.wait_for(lambda up: up.ledger.open == 0)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_u32_a_redirect_is_not_followed(transport: Transport, up: FaultUpstream, code: int) -> None:
    async with FaultUpstream() as elsewhere:
        up.on("/v1/chat/completions", canned(b"", code, {"location": f"{elsewhere.base_url}/chat/completions"}))
        response = await transport.send(origin_of(up), request_for(), BRISK)
        assert response.status == code
        response.close()
        assert elsewhere.ledger.accepted == 0
        assert len(up.requests) == 1


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", gzip.compress(b"0" * (16 << 20))), ("gzip", b"corrupt"), ("zstd", b"x"), ("br", b"x")]
)
async def test_u33_a_compressed_response_is_rejected_unread(transport: Transport, up: FaultUpstream, encoding: str, body: bytes) -> None:
    up.on("/v1/chat/completions", canned(body, headers={"content-encoding": encoding}))
    assert (await fail_to_send(transport, origin_of(up))).kind == "encoding"
    assert up.requests[0].header("accept-encoding") == "identity"
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u33_identity_is_not_an_encoding(transport: Transport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", canned(b"{}", headers={"content-encoding": "identity"}))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert await response.body(LIMIT) == b"{}"
    response.close()


async def test_u38_a_connection_closed_while_idle_is_replaced(transport: Transport, up: FaultUpstream) -> None:
    for _ in range(5):
        response = await transport.send(origin_of(up), request_for("close-when-reused"), BRISK)
        assert await response.body(LIMIT) == b'{"first":true}'
        response.close()
    if isinstance(transport, NativeTransport):
        assert transport.stats.stale_retries == 4
        assert len(up.requests) == 9


@pytest.mark.parametrize("code", [401, 413])
@pytest.mark.parametrize("ending", [HANG, FIN, RST], ids=["open", "fin", "rst"])
async def test_u39_an_early_error_is_returned_and_the_connection_closed(
    native: NativeTransport, up: FaultUpstream, code: int, ending: Step
) -> None:
    refusal = b"HTTP/1.1 %d Early\r\ncontent-length: 2\r\n\r\n{}" % code
    up.on("/upload", play(refusal, ending), early=True)
    # A small request is sent completely before the error arrives; only the upstream can determine whether it was read.
    for size in (32 << 20,) if ending is HANG else (200, 32 << 20):
        response = await native.send(origin_of(up), request_for(path="/upload", body=b"x" * size), BRISK)
        assert response.status == code
        assert await response.body(LIMIT) == b"{}"
        response.close()
    await up.wait_for(lambda up: up.ledger.open == 0 or ending is HANG)
    up.on("/v1/models", canned(b"{}"))
    response = await native.send(origin_of(up), request_for(path="/v1/models"), BRISK)
    assert await response.body(LIMIT) == b"{}"
    response.close()
    assert up.requests[-1].link is not up.requests[-2].link


async def test_u39_an_early_error_with_a_close_is_returned(
    native: NativeTransport, up: FaultUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    up.on("/upload", play(b"HTTP/1.1 413 Early\r\ncontent-length: 2\r\n\r\n{}", FIN), early=True)
    for number in range(50):
        response = await native.send(origin_of(up), request_for(path="/upload", body=b"x" * (1 << 20) * (1 + number % 3)), BRISK)
        assert (response.status, await response.body(LIMIT)) == (413, b"{}")
        response.close()
    assert caplog.records == []


def refuse_and_close(listener: socket.socket, count: int) -> None:
    """Run an upstream that responds to a request's head and closes with the body unread, so that the kernel resets."""
    for _ in range(count):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 413 Early\r\ncontent-length: 2\r\n\r\n{}")


async def test_u39_an_early_error_is_read_although_the_upload_breaks_first(native: NativeTransport, up: FaultUpstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        origin = structs.replace(origin_of(up), port=listener.getsockname()[1])
        closing = asyncio.create_task(asyncio.to_thread(refuse_and_close, listener, 40))
        for _ in range(40):
            response = await native.send(origin, request_for(path="/upload", body=b"x" * (4 << 20)), BRISK)
            assert (response.status, await response.body(LIMIT)) == (413, b"{}")
            response.close()
        await closing


async def test_u39_the_upload_stops_after_an_early_error(native: NativeTransport, up: FaultUpstream) -> None:
    received = []

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 413 Early\r\ncontent-length: 2\r\n\r\n{")
        await exchange.sleep(0.1)
        received.append(await exchange.read_for(0.3))
        await exchange.send(b"}")

    up.on("/upload", script, early=True)
    response = await native.send(origin_of(up), request_for(path="/upload", body=b"x" * (64 << 20)), BRISK)
    assert response.status == 413
    assert await response.body(LIMIT) == b"{}"
    response.close()
    assert received[0] < 32 << 20
    await up.wait_for(lambda up: up.ledger.open == 0)


SURPLUS = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsurplus!!"


@pytest.mark.parametrize(
    "wire",
    [
        [JSON + b"content-length: 2\r\n\r\n{}" + SURPLUS],
        [JSON + b"content-length: 2\r\n\r\n{}garbage"],
        [JSON + b"content-length: 2\r\n\r\n{}\r\n"],
        [JSON + b"content-length: 2\r\n\r\n{}", 0.05, SURPLUS],
        [JSON + b"content-length: 0\r\n\r\n\r\n"],
        [SSE + chunked(b"{}") + b"0\r\n\r\n" + SURPLUS],
        [SSE + chunked(b"{}") + b"0\r\n\r\n\r\n"],
        [JSON + b"connection: close\r\ncontent-length: 2\r\n\r\n{}" + SURPLUS],
    ],
    ids=["answer", "garbage", "blank", "later", "blank-after-nothing", "chunked", "chunked-blank", "close"],
)
async def test_u40_surplus_bytes_never_reach_the_next_caller(transport: Transport, up: FaultUpstream, wire: list[Any]) -> None:
    up.once(play(*wire))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert await response.body(LIMIT) in (b"{}", b"")
    response.close()
    size = sum(len(step) for step in wire if isinstance(step, bytes))
    is_native = isinstance(transport, NativeTransport)  # httpx detects surplus bytes when it is about to use the connection again
    await up.wait_for(lambda up: up.ledger.open == 0 or (not is_native and up.requests[0].sent == size))
    up.on("/v1/chat/completions", canned(b'{"mine":true}'))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert await response.body(LIMIT) == b'{"mine":true}'
    response.close()
    assert up.requests[0].link is not up.requests[1].link
    if isinstance(transport, NativeTransport) and b"close" not in wire[0]:
        assert transport.stats.poisoned == 1


async def test_an_error_event_in_a_stream_is_passed_through(transport: Transport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", sse({"error": {"message": "x"}}))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert b"error" in await response.body(LIMIT)
    response.close()

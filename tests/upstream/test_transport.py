"""The behaviour that both transports share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.upstream.transport import Origin, TlsFiles, Transport, UpstreamError, in_seconds
from providers.base import WireRequest
from tests.faults.behaviours import JSON, SSE, chunked
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FIN, HANG, FaultUpstream, canned, play
from tests.upstream.conftest import BRISK, origin_of, request_for

LIMIT = 1 << 20


async def fetch(transport: Transport, up: FaultUpstream, request: WireRequest | None = None) -> bytes:
    """Return the body of one response."""
    response = await transport.send(origin_of(up), request or request_for(), BRISK)
    try:
        return await response.body(LIMIT)
    finally:
        response.close()


async def test_the_request_arrives_as_it_was_given(transport: Transport, up: FaultUpstream) -> None:
    request = WireRequest("/v1/x?a=b%20c", [("content-type", "application/json"), ("x-two", "2")], b'{"model": "m" }')
    await fetch(transport, up, request)
    seen = up.requests[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/x?a=b%20c", b'{"model": "m" }')
    assert dict(seen.headers) == {
        "host": f"127.0.0.1:{up.port}", "accept-encoding": "identity", "content-length": "15",
        "content-type": "application/json", "x-two": "2",
    } | ({"connection": "close"} if seen.header("connection") else {})  # fmt: skip


async def test_framing_headers_are_written_by_the_transport_alone(transport: Transport, up: FaultUpstream) -> None:
    forged = [("content-length", "1"), ("transfer-encoding", "chunked"), ("host", "elsewhere"), ("accept-encoding", "gzip")]
    await fetch(transport, up, WireRequest("/v1/models", forged, b"{}"))
    assert up.requests[0].header("content-length") == "2"
    assert up.requests[0].header("transfer-encoding") is None
    assert [value for name, value in up.requests[0].headers if name in ("host", "accept-encoding")] == [f"127.0.0.1:{up.port}", "identity"]


@pytest.mark.parametrize("value", ["a\r\nx-smuggled: 1", "a\nb", "a\rb", "a\0b", "\u20ac"])
async def test_a_header_value_with_a_line_break_is_rejected(transport: Transport, up: FaultUpstream, value: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin_of(up), WireRequest("/v1/x", [("x-evil", value)], b""), BRISK)
    assert caught.value.kind == "protocol"
    assert up.requests == []


@pytest.mark.parametrize("path", ["/v1/x y", "/v1/x\r\nhost: elsewhere", "/v1/x HTTP/1.1\r\n\r\n"])
async def test_a_path_that_would_break_the_request_line_is_rejected(transport: Transport, up: FaultUpstream, path: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin_of(up), WireRequest(path, [], b""), BRISK)
    assert caught.value.kind == "protocol"
    assert up.ledger.requests == []


@pytest.mark.parametrize("code", [200, 201, 400, 401, 404, 429, 500, 529])
async def test_the_status_and_headers_are_unchanged(transport: Transport, up: FaultUpstream, code: int) -> None:
    up.once(canned(b'{"x":1}', code, {"X-Request-Id": "abc", "x-twice": "1"}))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert response.status == code
    assert (b"x-request-id", b"abc") in response.headers
    assert await response.body(LIMIT) == b'{"x":1}'
    response.close()


@pytest.mark.parametrize(
    ("head", "wire"),
    [
        (JSON + b"content-length: 10\r\n\r\n", [b"0123456789"]),
        (JSON + b"content-length: 10\r\n\r\n", [b"01234", 0.05, b"56789"]),
        (SSE, [chunked(b"01234"), 0.05, chunked(b"56789"), b"0\r\n\r\n"]),
        (SSE, [b"5;ext=1\r\n01234\r\n5\r\n", 0.05, b"56789\r\n0\r\nx-trailer: 1\r\n\r\n"]),
        (b"HTTP/1.1 200 OK\r\n\r\n", [b"01234", 0.05, b"56789", FIN]),
        (b"HTTP/1.0 200 OK\r\n\r\n", [b"0123456789", FIN]),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + JSON + b"content-length: 10\r\n\r\n", [b"0123456789"]),
    ],
    ids=["length", "length-in-two", "chunked", "chunked-extension-trailer", "until-close", "http-1.0", "interim"],
)
async def test_a_body_is_read_completely_with_every_framing(
    transport: Transport, up: FaultUpstream, head: bytes, wire: list[bytes]
) -> None:
    up.on("/v1/chat/completions", play(head, *wire))
    assert await fetch(transport, up) == b"0123456789"
    response = await transport.send(origin_of(up), request_for(), BRISK)
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    assert b"".join(pieces) == b"0123456789"
    assert await response.read() == b""
    response.close()


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", SSE + b"0\r\n\r\n"])
async def test_an_empty_body_ends_at_once(transport: Transport, up: FaultUpstream, head: bytes) -> None:
    up.on("/v1/chat/completions", play(head))
    assert await fetch(transport, up) == b""


async def test_a_head_that_arrives_byte_by_byte_is_read(transport: Transport, up: FaultUpstream) -> None:
    wire = JSON + b"content-length: 2\r\n\r\n{}"
    up.on("/v1/chat/completions", play(*[step for byte in wire for step in (bytes((byte,)), 0.001)]))
    assert await fetch(transport, up) == b"{}"


async def test_a_stream_is_read_as_it_arrives(transport: Transport, up: FaultUpstream) -> None:
    release = asyncio.Event()

    async def script(exchange) -> None:  # type: ignore[no-untyped-def]
        await exchange.start_stream()
        await exchange.event(b"first")
        await release.wait()
        await exchange.event(b"second")
        await exchange.chunk(b"")

    up.on("/v1/chat/completions", script)
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert await response.read() == b"data: first\n\n"
    release.set()
    assert await response.read() == b"data: second\n\n"
    assert await response.read() == b""
    response.close()


async def test_a_body_beyond_the_limit_is_too_large(transport: Transport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", canned(b"x" * 200_000))
    response = await transport.send(origin_of(up), request_for(), BRISK)
    with pytest.raises(UpstreamError) as caught:
        await response.body(100_000)
    assert caught.value.kind == "too_large"
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_closing_an_unread_response_closes_its_socket(transport: Transport, up: FaultUpstream) -> None:
    response = await transport.send(origin_of(up), request_for("stall-mid-stream"), BRISK)
    assert await response.read()
    assert up.ledger.open == 1
    response.close()
    response.close()
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert up.requests[0].left is not None


async def test_cancelling_before_the_head_closes_the_socket(transport: Transport, up: FaultUpstream) -> None:
    sending = asyncio.ensure_future(transport.send(origin_of(up), request_for("silent"), BRISK))
    await up.wait_for(lambda up: len(up.requests) == 1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_concurrent_calls_get_their_own_responses(transport: Transport, up: FaultUpstream) -> None:
    async def script(exchange) -> None:  # type: ignore[no-untyped-def]
        await exchange.sleep(0.001 * (int(exchange.request.body) % 7))
        await canned(b'{"echo":' + exchange.request.body + b"}")(exchange)

    up.on("/v1/chat/completions", script)
    bodies = await asyncio.gather(*[fetch(transport, up, request_for(body=b"%d" % number)) for number in range(80)])
    assert bodies == [b'{"echo":%d}' % number for number in range(80)]


async def test_a_large_body_is_sent_whole(transport: Transport, up: FaultUpstream) -> None:
    body = bytes(range(256)) * 8192
    up.on("/upload", canned(b"{}"))
    assert await fetch(transport, up, request_for(path="/upload", body=body)) == b"{}"
    assert up.requests[0].body == body


async def test_a_get_and_a_head_are_answered(transport: Transport, up: FaultUpstream) -> None:
    assert b'"mock"' in await fetch(transport, up, request_for(path="/v1/models", body=b"", method="GET"))
    up.on("/v1/models", play(JSON + b"content-length: 500\r\n\r\n"))
    assert await fetch(transport, up, request_for(path="/v1/models", body=b"", method="HEAD")) == b""


async def test_unix_sockets_are_supported(transport: Transport, tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock")
    async with FaultUpstream(unix=path) as up:
        response = await transport.send(Origin("http", "localhost", 80, socket=path), request_for(), BRISK)
        assert b"w0 w1" in await response.body(LIMIT)
        response.close()
        assert up.requests[0].header("host") == "localhost"
    with pytest.raises(UpstreamError) as caught:
        await transport.send(Origin("http", "localhost", 80, socket=path + "-absent"), request_for(), BRISK)
    assert caught.value.kind == "connect"


async def test_tls_works_with_a_configured_authority(transport: Transport, certificates: Certificates) -> None:
    async with FaultUpstream(tls="good", certificates=certificates) as up:
        for _ in range(2):
            response = await transport.send(origin_of(up, certificates.ca), request_for(), BRISK)
            assert b"w0 w1" in await response.body(LIMIT)
            response.close()


async def test_an_unreadable_authority_is_a_tls_error(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError) as caught:
        await transport.send(Origin("https", "127.0.0.1", 9, tls=TlsFiles(str(tmp_path / "absent.pem"))), request_for(), BRISK)
    assert caught.value.kind in ("tls", "connect")


async def test_closing_the_transport_ends_calls_in_flight(transport: Transport, up: FaultUpstream) -> None:
    response = await transport.send(origin_of(up), request_for("stall-mid-stream"), BRISK)
    response.close()
    up.on("/v1/chat/completions", play(HANG))
    await transport.aclose()
    await up.wait_for(lambda up: up.ledger.open == 0)


@pytest.mark.parametrize(
    ("duration", "text"), [(1e-06, "0.000001 s"), (0.5, "0.5 s"), (60.0, "60 s"), (1.25, "1.25 s"), (1e7, "10000000 s"), (0.0, "0 s")]
)
def test_durations_are_written_without_an_exponent(duration: float, text: str) -> None:
    assert in_seconds(duration) == text

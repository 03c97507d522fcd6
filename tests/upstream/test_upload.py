"""Request bodies that are sent piece by piece, by both transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.pool import MAX_IDLE_FOR_UPLOAD_S
from gateway.upstream.request_head import body_headers, encode_upload_head
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from gateway.upstream.upload import LAST_CHUNK, PacedUpload
from providers.base import WireRequest
from tests.faults.upstream_server import FIN, FaultUpstream, canned, play

DEADLINES = Deadlines(connect=5, tls=5, first_byte=5, idle=5, total=10)


class Pieces:
    """A body of these pieces. An exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception, length: int | None = None, is_declared: bool = True) -> None:
        self.length = length
        self.is_declared = is_declared
        self.has_body = is_declared and length != 0
        self.reads = 0
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        """Return the next piece, after a turn of the event loop."""
        self.reads += 1
        await asyncio.sleep(0)
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


@pytest.fixture(params=["native", "httpx"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[NativeTransport | HttpxTransport]:
    """Return each transport."""
    made = NativeTransport() if request.param == "native" else HttpxTransport()
    yield made
    await made.aclose()


def origin(up: FaultUpstream) -> Origin:
    """Return the origin of an upstream."""
    return Origin("http", up.host, up.port)


def post(method: str = "POST") -> WireRequest:
    """Return a request without a body of its own."""
    return WireRequest("/v1/files", [("x-a", "1")], b"", method)


@pytest.mark.parametrize(
    ("upload", "body", "framing"),
    [
        (Pieces(b"abc", b"d" * 100_000, length=100_003), b"abc" + b"d" * 100_000, ("content-length", "100003")),
        (Pieces(b"abc", b"de"), b"abcde", ("transfer-encoding", "chunked")),
        (Pieces(), b"", ("transfer-encoding", "chunked")),
        (Pieces(length=0), b"", ("content-length", "0")),
        (Pieces(length=0, is_declared=False), b"", None),
    ],
    ids=["length", "chunked", "empty chunked", "declared empty", "none"],
)
async def test_a_body_arrives_with_its_own_framing(
    up: FaultUpstream, transport: NativeTransport | HttpxTransport, upload: Pieces, body: bytes, framing: tuple[str, str] | None
) -> None:
    upload = Pieces(*upload._pieces, length=upload.length, is_declared=upload.is_declared)
    up.on(lambda request: True, canned(b"{}"))
    response = await transport.send(origin(up), post("POST" if upload.is_declared else "GET"), DEADLINES, upload)
    assert (response.status, await response.body(100)) == (200, b"{}")
    (request,) = up.requests
    assert request.body == body
    assert [header for header in request.headers if header[0] in ("content-length", "transfer-encoding")] == ([framing] if framing else [])


async def test_an_error_of_the_body_ends_the_request(up: FaultUpstream, transport: NativeTransport | HttpxTransport) -> None:
    with pytest.raises(LookupError):
        await transport.send(origin(up), post(), DEADLINES, Pieces(b"abc", LookupError("x"), length=9))
    await up.wait_for(lambda server: server.ledger.open == 0)
    assert up.requests == []


@pytest.mark.parametrize("pieces", [(b"abc",), (b"abc", b"defgh")], ids=["short", "long"])
async def test_a_body_of_another_size_than_declared_is_never_completed(up: FaultUpstream, pieces: tuple[bytes, ...]) -> None:
    transport = NativeTransport()
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin(up), post(), DEADLINES, Pieces(*pieces, length=5))
    assert caught.value.kind == "protocol"
    assert up.requests == []
    await transport.aclose()


async def test_a_request_with_a_body_is_not_repeated_and_one_without_is(up: FaultUpstream) -> None:
    transport = NativeTransport()
    up.on(lambda request: True, canned(b"{}"))
    await (await transport.send(origin(up), post(), DEADLINES, Pieces(length=0))).body(100)
    up.once(play(FIN))
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin(up), post(), DEADLINES, Pieces(b"abc", length=3))
    assert (caught.value.kind, len(up.requests)) == ("closed_pre", 2)
    await (await transport.send(origin(up), post(), DEADLINES, Pieces(length=0))).body(100)
    up.once(play(FIN))
    repeated = await transport.send(origin(up), post(), DEADLINES, Pieces(length=0))
    assert (repeated.status, await repeated.body(100), len(up.requests)) == (200, b"{}", 5)
    assert (transport.in_use, transport.waiting) == (0, 0)
    await transport.aclose()


async def test_a_body_is_not_sent_on_a_connection_that_was_idle_for_long(up: FaultUpstream) -> None:
    now = [0.0]
    transport = NativeTransport(connections=1, clock=lambda: now[0])
    up.on(lambda request: True, canned(b"{}"))
    for seconds in (0.0, MAX_IDLE_FOR_UPLOAD_S / 2, MAX_IDLE_FOR_UPLOAD_S * 2):
        now[0] += seconds
        await (await transport.send(origin(up), post(), DEADLINES, Pieces(b"abc", length=3))).body(100)
    assert (up.ledger.accepted, transport.stats.connects, transport.stats.reuses) == (2, 2, 1)
    assert (transport.in_use, transport.idle) == (0, 1)
    await transport.aclose()


async def test_the_deadline_does_not_run_while_the_body_is_awaited(up: FaultUpstream) -> None:
    now = [0.0]
    transport = NativeTransport(clock=lambda: now[0])
    release = asyncio.Event()

    class Late(Pieces):
        async def read(self) -> bytes:
            if self.reads == 1:
                await release.wait()
            return await super().read()

    up.on(lambda request: True, canned(b"{}"))
    sending = asyncio.create_task(transport.send(origin(up), post(), DEADLINES, Late(b"abc", b"def", length=6)))
    await up.wait_for(lambda server: server.ledger.accepted == 1)
    now[0] += DEADLINES.first_byte * 1.5
    await asyncio.sleep(0.15)  # more than a tick
    assert not sending.done()
    release.set()
    response = await sending
    assert await response.body(100) == b"{}"
    await transport.aclose()


def test_the_head_declares_the_size_of_the_body_once() -> None:
    target = Origin("https", "api.example", 443)
    request = WireRequest("/v1/x", [("content-length", "9"), ("transfer-encoding", "chunked"), ("x-a", "1")], b"", "PUT")
    start = b"PUT /v1/x HTTP/1.1\r\nhost: api.example\r\naccept-encoding: identity\r\n"
    assert encode_upload_head(request, target, Pieces(length=5)) == start + b"content-length: 5\r\nx-a: 1\r\n\r\n"
    assert encode_upload_head(request, target, Pieces()) == start + b"transfer-encoding: chunked\r\nx-a: 1\r\n\r\n"
    assert encode_upload_head(request, target, Pieces(length=0, is_declared=False)) == start + b"x-a: 1\r\n\r\n"
    assert body_headers(Pieces(length=0)) == [("content-length", "0")]
    with pytest.raises(UpstreamError):
        encode_upload_head(WireRequest("/v1/x", [("x-a", "1\r\ncontent-length: 7")], b""), target, Pieces(length=5))
    assert (LAST_CHUNK, PacedUpload.__name__) == (b"0\r\n\r\n", "PacedUpload")

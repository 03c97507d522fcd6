"""Handshakes with upstreams: the accept key, TLS and connections that are given back."""

from __future__ import annotations

import pytest

from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, TlsFiles, UpstreamError
from gateway.upstream.websocket import MAX_REFUSAL_BYTES, accept_key
from providers.base import WireRequest
from tests.faults.tls import Certificates
from tests.support.websocket_peer import ACCEPT, KEY, Peer, SocketServer, accept, socket_server


def request() -> WireRequest:
    """Return a handshake."""
    return WireRequest("/v1/realtime", [("sec-websocket-key", KEY.decode()), ("sec-websocket-version", "13")], b"", "GET")


def origin_of(server: SocketServer, ca: str | None = None) -> Origin:
    """Return the origin of a server."""
    return Origin(server.scheme, "localhost" if ca else "127.0.0.1", server.port, tls=TlsFiles(ca))


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accept_key(KEY) == ACCEPT


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_a_handshake_opens_a_connection_of_its_own(certificates: Certificates, secure: bool) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer, b"x-a: 1")
        await peer.ended()

    transport = NativeTransport()
    async with socket_server(script, certificates.server_context() if secure else None) as server:
        sent = request()
        socket = await transport.open_socket(origin_of(server, str(certificates.ca) if secure else None), sent, Deadlines())
        assert (socket.status, dict(socket.headers)[b"x-a"], sent.written, transport.in_use) == (101, b"1", True, 1)
        assert server.peers[0].head.startswith(b"GET /v1/realtime HTTP/1.1\r\nhost: ")
        await transport.aclose()
        assert transport.in_use == 0
    await transport.aclose()


async def test_a_refusal_and_a_failure_give_the_connection_back() -> None:
    answers = [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno", 404),
        (b"HTTP/1.1 200 OK\r\n\r\nno", 200),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nno", "closed_pre"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_REFUSAL_BYTES + 1), "protocol"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "protocol"),
        (b"HTTP/1.1 101 S\r\n\r\n", "protocol"),
        (b"", "closed_pre"),
    ]  # fmt: skip
    transport = NativeTransport()
    for answer, result in answers:

        async def script(peer: Peer, answer: bytes = answer) -> None:
            await peer.send_bytes(answer)

        async with socket_server(script) as server:
            if isinstance(result, int):
                socket = await transport.open_socket(origin_of(server), request(), Deadlines())
                assert (socket.status, socket.body) == (result, b"no")
            else:
                with pytest.raises(UpstreamError) as caught:
                    await transport.open_socket(origin_of(server), request(), Deadlines())
                assert caught.value.kind == result, answer[:40]
        assert transport.in_use == 0
    await transport.aclose()


async def test_a_header_cannot_add_a_line() -> None:
    bad = request()
    bad.headers.append(("x-a", "1\r\nx-b: 2"))
    with pytest.raises(UpstreamError, match="line break"):
        await NativeTransport().open_socket(Origin("http", "127.0.0.1", 9), bad, Deadlines())

"""Endless interim responses end a call at once: over both transports, HTTP/2, proxies, and in WebSocket handshakes."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.interim import MAX_INTERIM, HeadersFrames, InterimHeads, TooManyInterimError
from gateway.upstream.transport import Deadlines, Origin, TlsFiles, UpstreamError
from tests.faults.tls import Certificates
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.support.connect_proxy import connect_proxy
from tests.support.listener import listen
from tests.support.websocket_peer import Peer, socket_server
from tests.upstream.conftest import BRISK, origin_of, request_for
from tests.upstream.test_httpx_transport import Http2Server
from tests.upstream.test_proxy_tunnel import failure, pass_through

PATIENT = Deadlines(connect=30.0, tls=30.0, first_byte=50.0, idle=50.0, total=50.0)
"""Longer than a test may take, so that no deadline ends an endless response."""
CONTINUE, EARLY, FINAL = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"


def fed(counter: InterimHeads | HeadersFrames, data: bytes, sizes: list[int]) -> bool:
    """Feed bytes in pieces of these sizes. Return whether the counter accepts them."""
    at = 0
    try:
        for size in (*sizes, len(data)):
            counter.feed(data[at : at + size])
            at += size
    except TooManyInterimError:
        return False
    return True


@given(st.lists(st.sampled_from((CONTINUE, EARLY)), max_size=MAX_INTERIM + 3), st.lists(st.integers(1, 40), max_size=20))
def test_interim_responses_are_counted_in_pieces_of_any_size(interim: list[bytes], sizes: list[int]) -> None:
    data = b"".join(interim) + FINAL + CONTINUE * 20  # bytes of the body are not counted
    assert fed(InterimHeads(), data, sizes) == (len(interim) <= MAX_INTERIM)


def test_each_response_of_a_connection_is_counted() -> None:
    counter = InterimHeads()
    assert fed(counter, b"\x05\x00", [1])  # a SOCKS proxy
    counter.begin()
    assert fed(counter, CONTINUE * MAX_INTERIM + FINAL, [])
    counter.begin()
    assert not fed(counter, CONTINUE * MAX_INTERIM + CONTINUE, [])


@given(st.integers(0, MAX_INTERIM + 2), st.lists(st.integers(1, 40), max_size=30))
def test_interim_responses_of_http2_are_counted_for_each_stream(count: int, sizes: list[int]) -> None:
    client, server = (h2.connection.H2Connection(h2.config.H2Configuration(client_side=each)) for each in (True, False))
    client.initiate_connection()
    for stream in (1, 3):
        client.send_headers(stream, [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "a")], end_stream=True)
    server.receive_data(client.data_to_send())
    for stream in (1, 3):
        for _ in range(count):
            server.send_headers(stream, [(":status", "103")])
        server.send_headers(stream, [(":status", "200")])
        server.send_data(stream, b"x" * 3000)
        server.send_headers(stream, [("x-trailer", "1")], end_stream=True)
    assert fed(HeadersFrames(), server.data_to_send(), sizes) == (count <= MAX_INTERIM)


def test_counts_of_streams_without_an_end_are_bounded() -> None:
    counter = HeadersFrames()
    for stream in range(1, 6001, 2):
        counter.feed((0).to_bytes(3, "big") + b"\x01\x04" + stream.to_bytes(4, "big"))
    assert len(counter._counts) == 1000


async def send_endlessly(exchange: Exchange) -> None:
    """Send interim responses without end, and let the other tasks of this process run between them."""
    while True:
        await exchange.send(CONTINUE * 100)
        await asyncio.sleep(0.01)


async def rejected(origin: Origin) -> UpstreamError:
    """Return the error of a request over httpx."""
    transport = HttpxTransport()
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin, request_for(), PATIENT)
    await transport.aclose()
    return caught.value


async def test_an_endless_upstream_is_rejected_through_each_proxy(certificates: Certificates, up: FaultUpstream) -> None:
    async with FaultUpstream(tls="good", certificates=certificates) as secure:
        for server in (secure, up):
            server.on("/v1/chat/completions", send_endlessly)
        for scheme in ("http", "socks5"):
            async with connect_proxy(scheme) as proxy:
                for server in (secure, *([up] if scheme == "socks5" else [])):
                    error = await rejected(structs.replace(origin_of(server, certificates.ca), proxy=proxy.url()))
                    assert (error.kind, error.message) == ("protocol", f"the upstream sent more than {MAX_INTERIM} interim responses")


async def test_an_endless_proxy_is_rejected(certificates: Certificates) -> None:
    async with FaultUpstream() as proxy:
        proxy.on(lambda request: True, send_endlessly)
        for scheme in ("http", "https"):
            error = await rejected(Origin(scheme, "upstream.invalid", 8000, proxy=proxy.origin))
            assert error.kind == "protocol", scheme


async def test_a_few_interim_responses_are_skipped(certificates: Certificates, up: FaultUpstream) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(EARLY * MAX_INTERIM)
        await canned(b'{"a":1}')(exchange)

    up.on("/v1/chat/completions", answer)
    transport = HttpxTransport()
    response = await transport.send(origin_of(up), request_for(), BRISK)
    assert await response.body(100) == b'{"a":1}'
    await transport.aclose()


class EndlessHttp2Server(Http2Server):
    """Sends interim responses to each request."""

    def answer(self, stream: int) -> None:
        """Send more interim responses than allowed, and no response."""
        for _ in range(MAX_INTERIM + 3):
            self.state.send_headers(stream, [(":status", "103")])


async def test_an_endless_http2_upstream_is_rejected(certificates: Certificates) -> None:
    context = certificates.server_context()
    context.set_alpn_protocols(["h2"])
    listener = listen(EndlessHttp2Server, context=context)
    error = await rejected(Origin("https", "127.0.0.1", listener.port, tls=TlsFiles(str(certificates.ca))))
    await listener.close()
    assert error.kind == "protocol"


async def test_interim_responses_before_a_tunnel_are_bounded() -> None:
    interim, final = r"HTTP/1.1 100 Continue\r\n\r\n", r"HTTP/1.1 200 OK\r\n\r\n"
    async with connect_proxy("http", "--answer", interim * MAX_INTERIM + final) as proxy:
        await pass_through(proxy.url(), "127.0.0.1", None, None)
    async with connect_proxy("http", "--answer", interim * (MAX_INTERIM + 1) + final) as proxy:
        error = await failure(proxy.url(), deadlines=PATIENT)
    assert error.kind == "protocol"
    assert f"more than {MAX_INTERIM} interim responses" in error.message


async def test_interim_responses_before_a_websocket_are_bounded() -> None:
    async def script(peer: Peer) -> None:
        await peer.send_bytes(CONTINUE * (MAX_INTERIM + 1))
        await peer.ended()

    async with socket_server(script) as server:
        error = await failure("", Origin("http", "127.0.0.1", server.port), PATIENT)
    assert error.kind == "protocol"

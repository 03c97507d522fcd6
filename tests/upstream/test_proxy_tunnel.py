"""WebSocket connections through proxies: HTTP CONNECT and SOCKS 5, credentials, TLS, refusals, and proxies that do not respond."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.proxy_tunnel import Proxy, read_proxy
from gateway.upstream.resolver import is_allowed_address
from gateway.upstream.transport import Deadlines, Origin, TlsFiles, UpstreamError
from providers.base import WireRequest
from tests.faults.tls import Certificates
from tests.flows.live import eventually
from tests.support.connect_proxy import connect_proxy
from tests.support.websocket_peer import KEY, Peer, accept, socket_server
from tests.upstream.conftest import BRISK

CREDENTIALS = "user:p%40ss%3A%2F"
DECODED = "user:p@ss:/"
IMPATIENT = Deadlines(connect=1.5, tls=5.0, first_byte=10.0, idle=10.0, total=20.0)


def request() -> WireRequest:
    """Return a handshake."""
    headers = [("sec-websocket-key", KEY.decode()), ("sec-websocket-version", "13"), ("authorization", "Bearer sk-secret")]
    return WireRequest("/v1/realtime", headers, b"", "GET")


async def hello(peer: Peer) -> None:
    """Accept the handshake, send five bytes immediately, and wait for the end."""
    await accept(peer)
    await peer.send_bytes(b"early")
    await peer.ended()


class Collector(asyncio.Protocol):
    """Collects what arrives after the handshake."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        """Keep the bytes."""
        self.data += data


async def pass_through(proxy: str, host: str, context: ssl.SSLContext | None, ca: str | None) -> tuple[bytes, int]:
    """Open a WebSocket connection to a server at `host` through a proxy, and check that bytes arrive.

    Return the head that the server received, and the server's port.
    """
    transport = NativeTransport(is_allowed=is_allowed_address)
    async with socket_server(hello, context) as server:
        origin = Origin(server.scheme, host, server.port, tls=TlsFiles(ca), proxy=proxy)
        sent = request()
        socket = await transport.open_socket(origin, sent, BRISK)
        assert (socket.status, sent.written, transport.in_use) == (101, True, 1)
        collector = Collector()
        collector.data += socket.switch(collector)
        await eventually(lambda: collector.data == b"early")
        await transport.aclose()
        assert transport.in_use == 0
        return server.peers[0].head, server.port


async def failure(proxy: str, origin: Origin | None = None, deadlines: Deadlines = BRISK) -> UpstreamError:
    """Return the error of a connection through a proxy. Fail if the gateway keeps a connection."""
    transport = NativeTransport(is_allowed=is_allowed_address)
    through = origin or Origin("http", "127.0.0.1", 9, proxy=proxy)
    with pytest.raises(UpstreamError) as caught:
        await transport.open_socket(through, request(), deadlines)
    assert transport.in_use == 0
    await transport.aclose()
    return caught.value


@pytest.mark.parametrize("credentials", ["", CREDENTIALS], ids=["open", "password"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_a_connection_goes_through_the_proxy(certificates: Certificates, scheme: str, credentials: str) -> None:
    options = ("--user", DECODED) if credentials else ()
    async with connect_proxy(scheme, *options) as proxy:
        for context, ca in ((None, None), (certificates.server_context(), str(certificates.ca))):
            head, port = await pass_through(proxy.url(credentials), "localhost", context, ca)
            assert await proxy.next_tunnel() == f"localhost:{port} accepted"
            assert head.startswith(b"GET /v1/realtime HTTP/1.1\r\nhost: localhost:")
            assert b"proxy" not in head.lower()


async def test_a_proxy_with_tls_is_verified_with_the_authorities_of_the_provider(certificates: Certificates, tmp_path: Path) -> None:
    pem = tmp_path / "proxy.pem"
    certificates.authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    async with connect_proxy("https", "--tls", str(pem)) as proxy:
        for context in (None, certificates.server_context()):
            await pass_through(proxy.url(), "localhost", context, str(certificates.ca))
        error = await failure(proxy.url())
    assert error.kind == "tls"
    assert "TLS with 127.0.0.1 failed" in error.message


async def test_the_certificate_of_the_upstream_is_verified_inside_the_tunnel(certificates: Certificates) -> None:
    async with connect_proxy() as proxy, socket_server(hello, certificates.server_context("wrong_host")) as server:
        error = await failure("", Origin("https", "localhost", server.port, tls=TlsFiles(str(certificates.ca)), proxy=proxy.url()))
    assert error.kind == "tls"
    assert "TLS with localhost failed" in error.message


REFUSALS: list[tuple[str, tuple[str, ...], str, str]] = [
    ("http", ("--user", DECODED), "", "requires credentials (status 407)"),
    ("http", ("--user", DECODED), "user:wrong", "refused the credentials (status 407)"),
    ("http", ("--answer", r"HTTP/1.1 403 Forbidden\r\n\r\n"), "", "refused a connection to 127.0.0.1:9 (status 403)"),
    ("http", ("--answer", r"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n"), "", "(status 302)"),
    ("http", ("--answer", r"HTTP/1.1 "), "", "the proxy closed the connection before its response was complete"),
    ("socks5", ("--user", DECODED), "", "requires credentials"),
    ("socks5", ("--user", DECODED), "user:wrong", "refused the credentials"),
    ("socks5", (), CREDENTIALS, "does not accept a user name and a password"),
    ("socks5", ("--socks-reply", "2"), "", "refused a connection to 127.0.0.1:9: not allowed by the rules"),
    ("socks5", ("--socks-reply", "99"), "", "code 99"),
]


async def test_a_refusal_of_the_proxy_is_a_failed_connection() -> None:
    for scheme, options, credentials, message in REFUSALS:
        async with connect_proxy(scheme, *options) as proxy:
            error = await failure(proxy.url(credentials))
        assert error.kind == "connect", error
        assert message in error.message
        assert "wrong" not in error.message
        assert "p@ss" not in error.message


MALFORMED = [
    (r"HTTP/1.1 200 OK\r\n\r\nsurplus", "surplus bytes"),
    (r"nonsense 200 \r\n\r\n", "not valid HTTP"),
    (r"HTTP/1.1 200 OK\r\nx: " + "y" * 70_000, "too large"),
]


async def test_a_malformed_response_of_the_proxy_is_a_protocol_error() -> None:
    for answer, message in MALFORMED:
        async with connect_proxy("http", "--answer", answer) as proxy, socket_server() as server:
            error = await failure("", Origin("http", "127.0.0.1", server.port, proxy=proxy.url()))
        assert error.kind == "protocol", error
        assert message in error.message


async def test_an_interim_response_of_the_proxy_is_skipped() -> None:
    async with connect_proxy("http", "--answer", r"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") as proxy:
        await pass_through(proxy.url(), "127.0.0.1", None, None)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_does_not_answer_is_a_connect_timeout(scheme: str) -> None:
    async with connect_proxy(scheme, "--silent") as proxy:
        error = await failure(proxy.url(), deadlines=IMPATIENT)
        assert (await proxy.next_tunnel()).endswith("accepted")
    assert error.kind == "connect_timeout"
    assert error.message == f"the proxy 127.0.0.1:{proxy.port} opened no connection to 127.0.0.1:9 within 1.5 s"


async def test_a_proxy_that_is_unavailable_is_a_connect_error() -> None:
    port = free_port()
    error = await failure(f"http://user:secret@127.0.0.1:{port}")
    assert error.kind == "connect"
    assert error.message.startswith(f"cannot connect to 127.0.0.1:{port}: ")


async def test_blocked_addresses_are_not_requested_from_a_proxy() -> None:
    error = await failure("", Origin("http", "169.254.169.254", 80, proxy=f"http://127.0.0.1:{free_port()}"))
    assert error.kind == "blocked"


@pytest.mark.parametrize(("scheme", "target"), [("http", "[::1]:9"), ("socks5", "::1:9")])
async def test_an_ipv6_address_is_sent_to_the_proxy_in_its_form(scheme: str, target: str) -> None:
    async with connect_proxy(scheme) as proxy:
        error = await failure("", Origin("http", "::1", 9, proxy=proxy.url()))
        assert await proxy.next_tunnel() == f"{target} accepted"
    assert error.kind in ("connect", "closed_pre")  # the proxy accepts before it connects, and nothing listens at the port


async def test_a_cancelled_handshake_closes_its_tunnel() -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.ended()
        ended.set()

    transport = NativeTransport()
    async with connect_proxy() as proxy, socket_server(script) as server:
        work = asyncio.ensure_future(transport.open_socket(Origin("http", "127.0.0.1", server.port, proxy=proxy.url()), request(), BRISK))
        assert (await proxy.next_tunnel()).endswith("accepted")
        await eventually(lambda: bool(server.peers))
        work.cancel()
        async with asyncio.timeout(20):
            await ended.wait()
    assert transport.in_use == 0
    await transport.aclose()


def test_the_parts_of_a_proxys_url_are_decoded() -> None:
    assert read_proxy(f"http://{CREDENTIALS}@p.test:3128") == Proxy("http", "p.test", 3128, "user", "p@ss:/")
    assert read_proxy("socks5://[::1]") == Proxy("socks5", "::1", 1080, None, "")
    assert read_proxy("https://u@p.test") == Proxy("https", "p.test", 443, "u", "")

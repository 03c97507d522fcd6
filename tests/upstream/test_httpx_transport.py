"""Features of the httpx transport alone: proxies and HTTP/2."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import cast

import h2.config
import h2.connection
import h2.events
import pytest
from msgspec import structs

from benchmarks.ports import free_port
from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, TlsFiles, UpstreamError
from tests.faults.behaviours import JSON
from tests.faults.tls import Certificates
from tests.faults.upstream_server import HANG, FaultUpstream, canned, play
from tests.support.connect_proxy import connect_proxy
from tests.support.listener import listen
from tests.upstream.conftest import BRISK, origin_of, request_for


async def test_a_proxy_gets_the_whole_url_and_no_direct_connection_is_made() -> None:
    async with FaultUpstream() as proxy:
        proxy.on(lambda request: request.path.startswith("http://"), canned(b'{"proxied":true}'))
        transport = HttpxTransport()
        origin = Origin("http", "upstream.invalid", 8000, proxy=proxy.origin)
        response = await transport.send(origin, request_for(), BRISK)
        assert await response.body(1 << 20) == b'{"proxied":true}'
        response.close()
        await transport.aclose()
    assert proxy.requests[0].path == "http://upstream.invalid:8000/v1/chat/completions"


async def test_a_proxy_that_is_down_is_a_connect_error() -> None:
    transport = HttpxTransport()
    with pytest.raises(UpstreamError) as caught:
        await transport.send(Origin("http", "upstream.invalid", 80, proxy=f"http://127.0.0.1:{free_port()}"), request_for(), BRISK)
    assert caught.value.kind == "connect"
    await transport.aclose()


async def test_a_proxy_with_tls_is_verified_with_the_authorities_of_the_provider(
    up: FaultUpstream, certificates: Certificates, tmp_path: Path
) -> None:
    pem = tmp_path / "proxy.pem"
    certificates.authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    async with FaultUpstream(tls="good", certificates=certificates) as secure, connect_proxy("https", "--tls", str(pem)) as proxy:
        transport = HttpxTransport()
        response = await transport.send(structs.replace(origin_of(secure, certificates.ca), proxy=proxy.url()), request_for(), BRISK)
        assert (response.status, await response.body(1 << 20) != b"") == (200, True)
        assert await proxy.next_tunnel() == f"127.0.0.1:{secure.port} accepted"
        with pytest.raises(UpstreamError) as caught:
            await transport.send(structs.replace(origin_of(up), proxy=proxy.url()), request_for(), BRISK)
        assert caught.value.kind == "tls"
        await transport.aclose()


async def test_the_native_transport_never_bypasses_a_proxy(up: FaultUpstream) -> None:
    native = NativeTransport()
    with pytest.raises(UpstreamError):
        await native.send(Origin("http", "127.0.0.1", up.port, proxy="http://127.0.0.1:1"), request_for(), BRISK)
    assert up.ledger.accepted == 0
    await native.aclose()


class Http2Server(asyncio.Protocol):
    """Responds to every request with the request's body, except to one whose body is `silent`."""

    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).connections += 1
        self.transport = cast("asyncio.Transport", transport)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.state.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.state.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, h2.events.StreamEnded):
                self.answer(event.stream_id)
        self.flush()

    def answer(self, stream: int) -> None:
        """Respond to one request."""
        if self.bodies[stream] != b"silent":
            self.state.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
            self.state.send_data(stream, self.bodies[stream], end_stream=True)

    def flush(self) -> None:
        """Write the pending frames."""
        self.transport.write(self.state.data_to_send())


async def test_http2_is_used_if_the_upstream_offers_it(certificates: Certificates) -> None:
    context = certificates.server_context()
    context.set_alpn_protocols(["h2"])
    listener = listen(Http2Server, context=context)
    origin = Origin("https", "127.0.0.1", listener.port, tls=TlsFiles(str(certificates.ca)))
    Http2Server.connections = 0
    transport = HttpxTransport()

    async def echo(number: int) -> bytes:
        response = await transport.send(origin, request_for(body=b"%d" % number), BRISK)
        body = await response.body(1 << 20)
        response.close()
        return body

    await echo(0)
    assert await asyncio.gather(*[echo(number) for number in range(20)]) == [b"%d" % number for number in range(20)]
    assert Http2Server.connections == 1
    with pytest.raises(UpstreamError) as caught:
        await transport.send(origin, request_for(body=b"silent"), Deadlines(first_byte=0.2))
    assert caught.value.kind == "header_timeout"
    await transport.aclose()
    await listener.close()


async def test_http1_over_tls_works_and_its_connections_are_not_reused(certificates: Certificates) -> None:
    transport = HttpxTransport()
    async with FaultUpstream(tls="good", certificates=certificates) as up:
        up.on(lambda request: True, play(JSON + b"content-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsurplus!!"))
        for number in range(1, 4):
            response = await transport.send(origin_of(up, certificates.ca), request_for(), BRISK)
            assert await response.body(1 << 20) == b"{}"
            response.close()
            await up.wait_for(lambda up: up.ledger.open == 0)
            assert up.ledger.accepted == number
        await transport.aclose()


def test_httpx_is_not_imported_with_the_native_transport() -> None:
    code = "import sys, gateway.upstream.native_transport; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


async def test_a_total_deadline_is_always_reported_as_timeout(up: FaultUpstream) -> None:
    # uvloop's clock counts whole milliseconds, so a sum of floats may lie just after the time at which its timer fires
    up.on("/v1/chat/completions", play(JSON + b"content-length: 1000\r\n\r\n", b" ", HANG))
    transport = HttpxTransport()

    async def read_all(total: float) -> None:
        response = await transport.send(origin_of(up), request_for(), structs.replace(BRISK, total=total))
        await response.body(1 << 20)

    async def failure(total: float) -> str:
        with pytest.raises(UpstreamError) as caught:
            await read_all(total)
        return caught.value.kind

    kinds = await asyncio.gather(*(failure(milliseconds / 1000) for milliseconds in range(300, 340)))
    await transport.aclose()
    assert set(kinds) == {"timeout"}

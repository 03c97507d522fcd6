"""One document is fetched: its whole content, or an error that states the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from gateway.upstream.fetch import fetch
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import UpstreamError
from tests.faults.behaviours import canned, play
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FIN, FaultUpstream


@pytest.fixture
async def transport() -> AsyncIterator[NativeTransport]:
    """Return a transport."""
    transport = NativeTransport()
    yield transport
    await transport.aclose()


def answer(status: int, body: bytes, *headers: bytes) -> bytes:
    """Return a response."""
    lines = b"".join(each + b"\r\n" for each in (b"content-length: %d" % len(body), *headers))
    return b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, lines, body)


async def test_a_document_is_returned_with_its_query(up: FaultUpstream, transport: NativeTransport) -> None:
    up.on(lambda request: request.path == "/keys?v=1", play(answer(200, b'{"keys": []}'), FIN))
    assert await fetch(transport, f"{up.origin}/keys?v=1", 100) == b'{"keys": []}'
    assert (up.requests[0].method, up.requests[0].header("accept")) == ("GET", "application/json")


@pytest.mark.parametrize("status", [201, 204, 301, 302, 401, 404, 500])
async def test_another_status_is_an_error(up: FaultUpstream, transport: NativeTransport, status: int) -> None:
    up.on("/keys", play(answer(status, b"", b"location: /other"), FIN))
    with pytest.raises(UpstreamError, match=f"answered with status {status} instead of 200"):
        await fetch(transport, f"{up.origin}/keys", 100)
    assert len(up.requests) == 1


async def test_a_document_that_is_too_large_is_an_error(up: FaultUpstream, transport: NativeTransport) -> None:
    up.on("/keys", play(answer(200, b"x" * 101), FIN))
    with pytest.raises(UpstreamError, match="exceeds 100 bytes"):
        await fetch(transport, f"{up.origin}/keys", 100)


async def test_a_closed_port_is_an_error(transport: NativeTransport) -> None:
    with pytest.raises(UpstreamError):
        await fetch(transport, f"http://127.0.0.1:{free_port()}/keys", 100)


async def test_https_needs_a_trusted_certificate(transport: NativeTransport, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with FaultUpstream(tls="good", certificates=certificates) as up:
        up.on("/keys", canned(b"{}"))
        with pytest.raises(UpstreamError) as error:
            await fetch(transport, f"{up.origin}/keys", 100)
        assert error.value.kind == "tls"
        assert await fetch(transport, f"{up.origin}/keys", 100, ca=str(certificates.ca)) == b"{}"

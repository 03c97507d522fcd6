"""Fixtures of the transport tests: both event loops, both transports, a scripted upstream, certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, Response, TlsFiles, Transport
from providers.base import WireRequest
from tests.faults.upstream_server import FaultUpstream

BRISK = Deadlines(connect=5.0, tls=5.0, first_byte=10.0, idle=10.0, total=20.0)
"""Long enough for a busy machine, short enough to fail before pytest's own timeout."""

Send = Callable[..., Awaitable[Response]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test on uvloop, as in production, and on asyncio's loop."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def native() -> AsyncIterator[NativeTransport]:
    """The native transport. After the test no connection and no waiter may be left."""
    transport = NativeTransport()
    yield transport
    await transport.aclose()
    assert (transport.in_use, transport.idle, transport.waiting) == (0, 0, 0)


@pytest.fixture(params=["native", "httpx"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """Each of the two transports."""
    transport: Transport = NativeTransport() if request.param == "native" else HttpxTransport()
    yield transport
    await transport.aclose()


def origin_of(up: FaultUpstream, ca: Path | None = None) -> Origin:
    """Return the origin of a scripted upstream."""
    return Origin("https" if up.tls else "http", up.host, up.port, tls=TlsFiles(str(ca) if ca else None))


def request_for(model: str = "mock", path: str = "/v1/chat/completions", body: bytes | None = None, method: str = "POST") -> WireRequest:
    """Return a chat request. `model` selects the behaviour of the scripted upstream."""
    content = b'{"model":"%s","messages":[]}' % model.encode() if body is None else body
    return WireRequest(path, [("content-type", "application/json")], content, method)

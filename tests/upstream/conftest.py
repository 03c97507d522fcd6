"""What the tests of the transports share: both event loops, both transports, a scripted upstream, certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, Response, Transport
from providers.base import WireRequest
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream

BRISK = Deadlines(connect=5.0, tls=5.0, first_byte=10.0, idle=10.0, total=20.0)
"""Long enough for a busy machine, short enough to fail before pytest's own timeout."""

Send = Callable[..., Awaitable[Response]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Everything holds on the loop we run on and on the standard one."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def native() -> AsyncIterator[NativeTransport]:
    """The lean client; at the end of the test no connection and no waiter may be left."""
    transport = NativeTransport()
    yield transport
    await transport.aclose()
    assert (transport.in_use, transport.idle, transport.waiting) == (0, 0, 0)


@pytest.fixture(params=["native", "httpx"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """Both implementations of the seam."""
    made: Transport = NativeTransport() if request.param == "native" else HttpxTransport()
    yield made
    await made.aclose()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for the whole run."""
    return Certificates(tmp_path_factory.mktemp("tls"))


def origin_of(up: FaultUpstream, ca: Path | None = None) -> Origin:
    """Where a scripted upstream is."""
    return Origin("https" if up.tls else "http", up.host, up.port, ca=str(ca) if ca else None)


def request_for(model: str = "mock", path: str = "/v1/chat/completions", body: bytes | None = None, method: str = "POST") -> WireRequest:
    """A chat request; a behaviour of the scripted upstream is chosen by `model`."""
    content = b'{"model":"%s","messages":[]}' % model.encode() if body is None else body
    return WireRequest(path, [("content-type", "application/json")], content, method)

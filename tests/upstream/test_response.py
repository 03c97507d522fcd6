"""Data after the last event: the connection is reused if the rest is small and arrives soon."""

from __future__ import annotations

import pytest

from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.response import MAX_REST_BYTES
from gateway.upstream.transport import Deadlines, Origin
from providers.base import WireRequest
from tests.faults.upstream_server import HANG, FaultUpstream, Script, play
from tests.flows.live import eventually

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"e\r\ndata: [DONE]\n\n\r\n"


async def read_to_done(up: FaultUpstream, transport: NativeTransport) -> None:
    """Read one stream up to its [DONE] and finish it."""
    request = WireRequest("/v1/chat/completions", [], b"{}")
    response = await transport.send(Origin("http", up.host, up.port), request, Deadlines())
    assert b"[DONE]" in await response.read()
    response.finish()
    response.close()


@pytest.mark.parametrize("rest", [(b"0\r\n\r\n",), (0.05, b"0\r\n\r\n"), (b"5\r\nhello\r\n", 0.02, b"0\r\n\r\n")])
async def test_a_terminator_after_done_keeps_the_connection(rest: tuple[bytes | float, ...]) -> None:
    async with FaultUpstream() as up:
        up.on("/v1/chat/completions", play(HEAD, DONE, 0.02, *rest))
        transport = NativeTransport()
        for _ in range(3):
            await read_to_done(up, transport)
            await eventually(lambda: transport.idle == 1)
        assert transport.stats.connects == 1
        await transport.aclose()


@pytest.mark.parametrize(
    "script",
    [
        play(HEAD, DONE, HANG),
        play(HEAD, DONE, b"%x\r\n%b\r\n" % (2 * MAX_REST_BYTES, b"x" * 2 * MAX_REST_BYTES), HANG),
    ],
    ids=["nothing more", "too much more"],
)
async def test_a_connection_whose_rest_does_not_end_is_closed(script: Script) -> None:
    async with FaultUpstream() as up:
        up.on("/v1/chat/completions", script)
        transport = NativeTransport()
        await read_to_done(up, transport)
        await eventually(lambda: transport.in_use == 0 and transport.idle == 0)
        await transport.aclose()

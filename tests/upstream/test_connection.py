"""Backpressure: neither a slow caller nor a slow upstream makes the gateway's memory grow."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.response import MAX_UNREAD_BYTES
from tests.faults.behaviours import JSON
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.upstream.conftest import BRISK, origin_of, request_for

READ = 64 * 1024


async def send_much(exchange: Exchange) -> None:
    """Send 64 MiB with a content-length."""
    await exchange.send(JSON + b"content-length: %d\r\n\r\n" % (64 << 20))
    for _ in range(64 * 16):
        await exchange.send(b"x" * 65536)


async def test_a_paused_reader_blocks_the_upstream(native: NativeTransport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", send_much)
    response = await native.send(origin_of(up), request_for(), BRISK)
    sent = await up.settled()
    assert sent < 32 << 20
    assert response.size <= MAX_UNREAD_BYTES + READ
    seen = 0
    while piece := await response.read():
        assert len(piece) <= MAX_UNREAD_BYTES + READ
        seen += len(piece)
    assert seen == 64 << 20
    response.close()
    assert native.idle == 1


async def test_collecting_a_whole_body_resumes_a_paused_socket(native: NativeTransport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", canned(b"y" * (8 << 20)))
    response = await native.send(origin_of(up), request_for(), BRISK)
    await up.settled()
    assert len(await response.body(16 << 20)) == 8 << 20
    response.close()


async def test_a_connection_that_was_paused_serves_again(native: NativeTransport, up: FaultUpstream) -> None:
    up.on("/big", canned(b"y" * (MAX_UNREAD_BYTES + READ // 2)))
    for _ in range(3):
        response = await native.send(origin_of(up), request_for(path="/big"), BRISK)
        await asyncio.sleep(0.05)
        assert len(await response.body(1 << 20)) == MAX_UNREAD_BYTES + READ // 2
        response.close()
    assert up.ledger.accepted == 1


async def test_a_small_body_is_read_without_waiting(native: NativeTransport, up: FaultUpstream) -> None:
    response = await native.send(origin_of(up), request_for(), BRISK)
    await up.wait_for(lambda up: response.ended)
    body = response.body(1 << 20)
    with pytest.raises(StopIteration) as done:
        body.send(None)
    assert b"w0 w1" in done.value.value
    response.close()


async def test_an_upstream_that_does_not_read_blocks_the_upload(native: NativeTransport, up: FaultUpstream) -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        exchange.fin()

    up.on("/upload", script, early=True)
    body = b"z" * (64 << 20)
    sending = asyncio.ensure_future(native.send(origin_of(up), request_for(path="/upload", body=body), BRISK))
    await up.wait_for(lambda up: len(up.requests) == 1)
    await asyncio.sleep(0.3)
    (connection,) = next(iter(native._pools.values())).connections
    assert connection._transport is not None
    assert connection._transport.get_write_buffer_size() <= 256 * 1024
    release.set()
    outcome = await asyncio.gather(sending, return_exceptions=True)
    assert isinstance(outcome[0], Exception)

"""The native transport's pool: reuse, limits, fair queueing, and no slot lost to a cancelled call."""

from __future__ import annotations

import asyncio
import random
import socket
import time

import pytest

from benchmarks.ports import free_port
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.deadlines import Ticker
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.pool import Pool
from gateway.upstream.stats import TransportStats
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from tests.faults.behaviours import JSON, Step
from tests.faults.upstream_server import FIN, HANG, RST, Exchange, FaultUpstream, Script, canned, play
from tests.upstream.conftest import BRISK, origin_of, request_for


async def call(transport: NativeTransport, up: FaultUpstream, body: bytes | None = None, deadlines: Deadlines = BRISK) -> bytes:
    """Send one call and return the body of its response."""
    response = await transport.send(origin_of(up), request_for(body=body), deadlines)
    try:
        return await response.body(1 << 20)
    finally:
        response.close()


async def all_idle(transport: NativeTransport) -> None:
    """Wait until no connection is in use and no sender waits."""
    for _ in range(1000):
        if not transport.in_use and not transport.waiting:
            return
        await asyncio.sleep(0.005)
    pytest.fail(f"in use {transport.in_use}, waiting {transport.waiting}")


def held_until(release: asyncio.Event, order: list[bytes]) -> Script:
    """Return a script that records requests as they arrive and responds once it is released."""

    async def script(exchange: Exchange) -> None:
        order.append(exchange.request.body)
        await release.wait()
        await canned(b"{}")(exchange)

    return script


async def test_successive_calls_share_one_connection(native: NativeTransport, up: FaultUpstream) -> None:
    for _ in range(20):
        await call(native, up)
    assert up.ledger.accepted == 1
    assert (native.stats.connects, native.stats.reuses, native.idle, native.in_use) == (1, 19, 1, 0)


async def test_a_stream_read_to_its_end_releases_its_connection(native: NativeTransport, up: FaultUpstream) -> None:
    for _ in range(3):
        response = await native.send(origin_of(up), request_for(body=b'{"model":"m","messages":[],"stream":true}'), BRISK)
        while await response.read():
            pass
        response.close()
    assert up.ledger.accepted == 1


@pytest.mark.parametrize(
    "wire", [JSON + b"connection: close\r\ncontent-length: 2\r\n\r\n{}", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"]
)
async def test_a_connection_marked_close_is_not_reused(native: NativeTransport, up: FaultUpstream, wire: bytes) -> None:
    up.on("/v1/chat/completions", play(wire))
    await call(native, up)
    assert native.idle == native.in_use == 0
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert native.stats.poisoned == 0


async def test_the_connection_limit_is_never_exceeded(up: FaultUpstream) -> None:
    native = NativeTransport(connections=3)
    up.chunks, up.delay = 1, 0.002
    await asyncio.gather(*[call(native, up) for _ in range(60)])
    assert up.ledger.accepted == 3
    assert len(up.requests) == 60
    assert (native.in_use, native.idle, native.waiting) == (0, 3, 0)
    await native.aclose()


async def test_the_connection_limit_applies_per_origin(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    async with FaultUpstream() as other:
        blocked = asyncio.ensure_future(native.send(origin_of(up), request_for("silent"), BRISK))
        await up.wait_for(lambda up: len(up.requests) == 1)
        await call(native, other)
        blocked.cancel()
    await all_idle(native)
    await native.aclose()


async def test_waiting_senders_are_served_in_order(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    release, order = asyncio.Event(), list[bytes]()
    up.on("/v1/chat/completions", held_until(release, order))
    calls = []
    for number in range(30):
        calls.append(asyncio.ensure_future(call(native, up, b"%d" % number)))
        await asyncio.sleep(0)
    await up.wait_for(lambda up: len(up.requests) == 1)
    assert native.waiting == 29
    release.set()
    latecomers = [asyncio.ensure_future(call(native, up, b"%d" % number)) for number in range(30, 40)]
    await asyncio.gather(*calls, *latecomers)
    assert order == [b"%d" % number for number in range(40)]
    await native.aclose()


async def test_a_cancelled_waiter_is_skipped(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    release, order = asyncio.Event(), list[bytes]()
    up.on("/v1/chat/completions", held_until(release, order))
    calls = [asyncio.ensure_future(call(native, up, b"%d" % number)) for number in range(10)]
    await up.wait_for(lambda up: len(up.requests) == 1)
    for number in (1, 3, 4, 9):
        calls[number].cancel()
    release.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert order == [b"0", b"2", b"5", b"6", b"7", b"8"]
    assert (native.in_use, native.idle, native.waiting) == (0, 1, 0)
    await native.aclose()


@pytest.mark.parametrize("ending", [FIN, RST], ids=["fin", "rst"])
async def test_the_slot_of_a_lost_connection_goes_to_a_waiter(up: FaultUpstream, ending: Step) -> None:
    native = NativeTransport(connections=1)
    up.once(play(0.05, ending))
    outcomes = await asyncio.gather(*[call(native, up) for _ in range(3)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamError, bytes, bytes]
    assert up.ledger.accepted == 2
    await native.aclose()


async def test_waiting_too_long_for_a_connection_is_overloaded(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    blocker = asyncio.ensure_future(call(native, up, b'{"model":"silent"}'))
    await up.wait_for(lambda up: len(up.requests) == 1)
    with pytest.raises(UpstreamError) as caught:
        await call(native, up, deadlines=Deadlines(first_byte=0.2))
    assert caught.value.kind == "overloaded"
    assert native.waiting == 0
    blocker.cancel()
    await all_idle(native)
    await native.aclose()


async def test_refused_connections_release_their_slots() -> None:
    native = NativeTransport(connections=2)
    origin = Origin("http", "127.0.0.1", free_port())
    outcomes = await asyncio.gather(*[native.send(origin, request_for(), BRISK) for _ in range(50)], return_exceptions=True)
    assert {outcome.kind for outcome in outcomes if isinstance(outcome, UpstreamError)} == {"connect"}
    assert len(outcomes) == 50
    assert (native.in_use, native.waiting) == (0, 0)
    await native.aclose()


async def test_an_idle_connection_is_closed_after_its_keepalive(up: FaultUpstream) -> None:
    native = NativeTransport(keepalive=0.1)
    await call(native, up)
    assert native.idle == 1
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert native.idle == 0
    await native.aclose()


async def test_a_connection_the_upstream_closes_while_idle_is_dropped(native: NativeTransport, up: FaultUpstream) -> None:
    up.once(play(JSON + b"content-length: 2\r\n\r\n{}", 0.02, FIN))
    await call(native, up)
    for _ in range(400):
        if native.idle == 0:
            break
        await asyncio.sleep(0.005)
    assert native.idle == 0
    await call(native, up)
    assert native.stats.stale_retries == 0


async def test_u38_a_fresh_connection_that_is_closed_is_not_retried(native: NativeTransport, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", play(FIN))
    with pytest.raises(UpstreamError) as caught:
        await call(native, up)
    assert caught.value.kind == "closed_pre"
    assert (len(up.requests), native.stats.stale_retries) == (1, 0)


@pytest.mark.parametrize("first", [FIN, RST], ids=["fin", "rst"])
async def test_u38_the_retry_is_not_retried(native: NativeTransport, up: FaultUpstream, first: Step) -> None:
    await call(native, up)
    up.on("/v1/chat/completions", play(first))
    with pytest.raises(UpstreamError) as caught:
        await call(native, up)
    assert caught.value.kind == "closed_pre"
    assert (len(up.requests), native.stats.stale_retries, up.ledger.accepted) == (3, 1, 2)


async def test_u38_one_byte_of_a_response_prevents_the_retry(native: NativeTransport, up: FaultUpstream) -> None:
    await call(native, up)
    up.once(play(b"H", 0.05, FIN))
    with pytest.raises(UpstreamError) as caught:
        await call(native, up)
    assert caught.value.kind == "closed_pre"
    assert (len(up.requests), native.stats.stale_retries) == (2, 0)


async def test_u38_a_stale_connection_keeps_its_slot_for_the_retry(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    up.on("/v1/chat/completions", play(JSON + b"content-length: 2\r\n\r\n{}"))
    await call(native, up)
    up.once(play(0.05, FIN))
    assert await asyncio.gather(*[call(native, up) for _ in range(5)]) == [b"{}"] * 5
    assert native.stats.stale_retries == 1
    assert up.ledger.accepted == 2
    await native.aclose()


async def test_u40_bytes_on_an_idle_connection_close_it(native: NativeTransport, up: FaultUpstream) -> None:
    up.once(play(JSON + b"content-length: 2\r\n\r\n{}", 0.05, b"H", HANG))
    await call(native, up)
    await up.wait_for(lambda up: up.ledger.open == 0)
    assert (native.idle, native.stats.poisoned) == (0, 1)


async def test_u38_cancelling_a_call_on_a_stale_connection_frees_the_slot(native: NativeTransport, up: FaultUpstream) -> None:
    await call(native, up)
    calling = asyncio.ensure_future(call(native, up, b'{"model":"silent"}'))
    await up.wait_for(lambda up: len(up.requests) == 2)
    (connection,) = next(iter(native._pools.values())).connections
    connection.eof_received()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert (native.in_use, native.stats.stale_retries) == (0, 0)


async def test_u38_a_deadline_that_passes_before_the_retry_does_not_release_the_slot_of_a_stale_connection(up: FaultUpstream) -> None:
    ahead = 0.0
    native = NativeTransport(connections=1, clock=lambda: time.monotonic() + ahead)
    await call(native, up)
    up.once(play(HANG))
    calling = asyncio.ensure_future(call(native, up))
    await up.wait_for(lambda up: len(up.requests) == 2)
    (pool,) = native._pools.values()
    (connection,) = pool.connections
    ahead = BRISK.first_byte
    connection.eof_received()
    native._ticker._check()
    ahead = 0.0
    await calling
    assert (native.stats.stale_retries, pool.size, len(pool.idle), native.in_use) == (1, 1, 1, 0)
    await native.aclose()


async def test_cancelling_while_connecting_frees_the_slot(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    for rounds in range(20):
        calling = asyncio.ensure_future(call(native, up))
        for _ in range(rounds % 7):
            await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait([calling])
    await all_idle(native)
    assert b"w0" in await call(native, up)
    await native.aclose()


@pytest.mark.parametrize("cancels", [1_000, pytest.param(10_000, marks=pytest.mark.prove)])
async def test_u42_thousands_of_cancels_leave_the_pool_intact(up: FaultUpstream, cancels: int) -> None:
    native = NativeTransport(connections=10)
    chance = random.Random(42)
    up.chunks, up.delay = 3, 0.001
    streamed = b'{"model":"m","messages":[],"stream":true}'
    cancelled = 0
    while cancelled < cancels:
        crowd = [asyncio.ensure_future(call(native, up, streamed)) for _ in range(250)]
        for one in crowd:
            if chance.random() < 0.08:
                await asyncio.sleep(chance.random() * 0.003)
            one.cancel()
        outcomes = await asyncio.gather(*crowd, return_exceptions=True)
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        cancelled += sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert (native.in_use, native.waiting) == (0, 0)
    for _ in range(20):
        assert b"[DONE]" in await call(native, up, streamed)
    await native.aclose()
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_a_closed_transport_rejects_calls(up: FaultUpstream) -> None:
    native = NativeTransport(connections=1)
    blocker = asyncio.ensure_future(call(native, up, b'{"model":"silent"}'))
    await up.wait_for(lambda up: len(up.requests) == 1)
    waiter = asyncio.ensure_future(call(native, up))
    await asyncio.sleep(0.01)
    await native.aclose()
    outcomes = await asyncio.gather(blocker, waiter, call(native, up), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamError] * 3
    assert (native.in_use, native.idle, native.waiting) == (0, 0, 0)


def pool_of_one(peers: list[socket.socket], closed: bool = False) -> Pool:
    """Return a pool with one slot whose connections lead to `peers`. If `closed`, each is closed as soon as it is open."""

    async def dial(pool: Pool, deadlines: Deadlines, total: float) -> UpstreamConnection:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        peers.append(theirs)
        connection = pool.new_connection()
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
        if closed:
            connection.eof_received()
        return connection

    return Pool(Origin("http", "127.0.0.1", 1), 1, 60.0, Ticker(time.monotonic), dial, TransportStats())


async def test_a_waiter_whose_granted_connection_closes_stays_first() -> None:
    peers: list[socket.socket] = []
    pool = pool_of_one(peers)
    total = time.monotonic() + 60
    first = await pool.acquire(BRISK, total)
    second, third, fourth = (asyncio.ensure_future(pool.acquire(BRISK, total)) for _ in range(3))
    await asyncio.sleep(0)
    pool.release(first)
    first.abort()
    connection = await third
    assert not second.done()
    pool.release(connection)
    assert await second is connection
    pool.release(connection)
    assert await fourth is connection
    assert (pool.size, len(peers)) == (1, 2)
    pool.close()
    pool.ticker.stop()
    assert pool.size == 0
    for peer in peers:
        peer.close()


async def test_a_connection_closed_as_soon_as_it_is_open_is_an_error_without_a_slot() -> None:
    peers: list[socket.socket] = []
    pool = pool_of_one(peers, closed=True)
    for _ in range(3):
        with pytest.raises(UpstreamError) as caught:
            await pool.acquire(BRISK, time.monotonic() + 60)
        assert caught.value.kind == "closed_pre"
    assert (pool.size, pool.connections) == (0, set())
    pool.ticker.stop()
    for peer in peers:
        peer.close()

"""Deadlines on a clock that the tests move: real default values without waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.upstream.deadlines import MAX_TICK_S, Ticker, finish_before
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, UpstreamError
from tests.faults.behaviours import JSON, WORDS, Step, sse
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.upstream.conftest import origin_of, request_for


class Clock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Entry:
    """A watched entry that records when it expired."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.deadline = float("inf")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def native(clock: Clock) -> AsyncIterator[NativeTransport]:
    transport = NativeTransport(clock=clock)
    yield transport
    await transport.aclose()


async def ticks(count: int = 3) -> None:
    """Let the ticker check its deadlines."""
    await asyncio.sleep(MAX_TICK_S * count)


async def test_deadlines_expire_when_they_have_passed_and_not_before(clock: Clock) -> None:
    ticker = Ticker(clock)
    early, late = Entry(clock.now + 1), Entry(clock.now + 100)
    ticker.watch(early)
    ticker.watch(late)
    await ticks()
    assert early.expired == late.expired == []
    clock.now += 1
    await ticks()
    assert (early.expired, late.expired) == ([clock.now], [])
    ticker.forget(late)
    clock.now += 1000
    await ticks()
    assert late.expired == []
    ticker.stop()


async def test_one_timer_serves_any_number_of_deadlines(clock: Clock) -> None:
    armed: list[float] = []

    class Counting(Ticker):
        def _arm(self) -> None:
            armed.append(self.tick_s)
            super()._arm()

    ticker = Counting(clock)
    for _ in range(1000):
        ticker.watch(Entry(clock.now + 5))
    assert len(armed) == 1
    ticker.stop()


async def test_the_tick_follows_the_shortest_deadline() -> None:
    ticker = Ticker(Clock())
    ticker.tune(Deadlines())
    assert ticker.tick_s == MAX_TICK_S
    ticker.tune(Deadlines(connect=0.1))
    assert ticker.tick_s == pytest.approx(0.005)
    ticker.tune(Deadlines())
    assert ticker.tick_s == pytest.approx(0.005)


async def test_work_beyond_its_deadline_is_cancelled(clock: Clock) -> None:
    ticker = Ticker(clock)
    working = asyncio.ensure_future(finish_before(ticker, clock.now + 5, asyncio.sleep(30)))
    await ticks(1)
    clock.now += 5
    with pytest.raises(TimeoutError):
        await working
    ticker.stop()


async def test_cancellation_is_not_reported_as_a_timeout(clock: Clock) -> None:
    ticker = Ticker(clock)
    working = asyncio.ensure_future(finish_before(ticker, clock.now + 5, asyncio.sleep(30)))
    await ticks(1)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    ticker.stop()


async def test_work_that_cancels_itself_is_not_a_timeout(clock: Clock) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    ticker = Ticker(clock)
    with pytest.raises(asyncio.CancelledError):
        await finish_before(ticker, clock.now + 5, give_up())
    ticker.stop()


async def test_a_result_that_arrives_with_a_cancellation_is_discarded(clock: Clock) -> None:
    ticker = Ticker(clock)
    discarded: list[str] = []

    async def open_something() -> str:
        # the cancellation arrives when the result is ready but not yet returned
        asyncio.get_running_loop().call_soon(lambda: working.cancel())
        return "opened"

    working = asyncio.ensure_future(finish_before(ticker, clock.now + 5, open_something(), discarded.append))
    with pytest.raises(asyncio.CancelledError):
        await working
    assert discarded == ["opened"]
    ticker.stop()


@pytest.mark.parametrize(("part", "kind"), [({"total": 10_000.0}, "header_timeout"), ({"first_byte": 10_000.0}, "timeout")])
async def test_u6_no_head_within_a_minute(
    native: NativeTransport, clock: Clock, up: FaultUpstream, part: dict[str, float], kind: str
) -> None:
    sending = asyncio.ensure_future(native.send(origin_of(up), request_for("silent"), Deadlines(**part)))
    await up.wait_for(lambda up: len(up.requests) == 1)
    clock.now += 59.9
    await ticks()
    assert not sending.done()
    clock.now += 0.2 if kind == "header_timeout" else 540.2
    with pytest.raises(UpstreamError) as caught:
        await sending
    assert caught.value.kind == kind
    await up.wait_for(lambda up: up.ledger.open == 0)


async def test_u9_each_piece_of_a_body_restarts_the_idle_deadline(native: NativeTransport, clock: Clock, up: FaultUpstream) -> None:
    release = asyncio.Semaphore(0)

    async def script(exchange) -> None:  # type: ignore[no-untyped-def]
        await exchange.start_stream()
        while True:
            await exchange.event(b"x")
            await release.acquire()

    up.on("/v1/chat/completions", script)
    response = await native.send(origin_of(up), request_for(), Deadlines())
    for _ in range(4):
        assert await response.read() == b"data: x\n\n"
        clock.now += 59
        await ticks()
        release.release()
    assert await response.read() == b"data: x\n\n"
    clock.now += 61
    with pytest.raises(UpstreamError) as caught:
        await response.read()
    assert caught.value.kind == "stalled"
    response.close()


async def test_u7_pieces_do_not_extend_the_total_deadline(native: NativeTransport, clock: Clock, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", play(JSON + b"content-length: 1000000\r\n\r\n", *list[Step]([b" ", 0.01]) * 3000))
    response = await native.send(origin_of(up), request_for(), Deadlines())
    assert await response.read()
    clock.now += 601
    with pytest.raises(UpstreamError) as caught:
        await response.body(1 << 20)
    assert caught.value.kind == "timeout"
    response.close()


async def test_the_idle_deadline_stops_while_the_reader_does_not_read(native: NativeTransport, clock: Clock, up: FaultUpstream) -> None:
    response = await native.send(origin_of(up), request_for("endless-event"), Deadlines(idle=60))
    await ticks()
    clock.now += 500
    await ticks()
    assert await response.read()
    assert await response.read()
    response.close()


async def test_data_that_arrived_before_the_deadline_is_still_read(native: NativeTransport, clock: Clock, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", sse(*WORDS, ending=HANG))
    response = await native.send(origin_of(up), request_for(), Deadlines())
    await up.wait_for(lambda up: up.requests[0].events == 3)
    await ticks(1)
    clock.now += 61
    await up.wait_for(lambda up: up.ledger.open == 0)
    data = await response.read()
    assert b"two " in data
    with pytest.raises(UpstreamError) as caught:
        await response.read()
    assert caught.value.kind == "stalled"
    response.close()

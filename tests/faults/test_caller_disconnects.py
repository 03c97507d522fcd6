"""Callers that disconnect, read slowly or stall: the upstream connection is closed, and the record has the reason."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable

import pytest

from gateway.http.caller import CallerDeadlines
from tests.faults.behaviours import chat_chunk
from tests.faults.chat_script import answer_text
from tests.faults.client import CHAT_PATH, FaultClient, ask, chat, request_head
from tests.faults.conftest import EACH_FORM, Gate, Serve
from tests.faults.upstream_server import Exchange, FaultUpstream, Script, unreachable_base_url
from tests.flows.live import eventually
from tests.running import Figure, RunningGateway
from tests.support.process_memory import resident_bytes
from tests.support.turns import sleep_in_turns

Disconnect = Callable[[FaultClient], None]
DISCONNECTS: dict[str, Disconnect] = {"fin": FaultClient.fin, "rst": FaultClient.rst, "half-close": FaultClient.half_close}
EACH_DISCONNECT = pytest.mark.parametrize("disconnect", ["fin", "rst"])


async def closed_after(up: FaultUpstream, disconnected_at: float, index: int = 0) -> float:
    """Return the seconds from a disconnect of the caller to the close of the upstream connection `index`."""
    await up.wait_for(lambda up: up.ledger.links[index].closed is not None)
    closed = up.ledger.links[index].closed
    assert closed is not None
    return closed - disconnected_at


async def assert_disconnected(gate: Gate, phase: str) -> None:
    """Check that the caller of the only call disconnected in this phase."""
    await gate.record(status=499, aborted=phase)
    assert gate.gateway.metrics.counts["lockgate_client_aborts"] == {(phase,): 1}
    assert gate.count("lockgate_requests", "499", "client_closed") == 1
    assert gate.count("lockgate_upstream_errors") == 0


@pytest.mark.parametrize("disconnect", DISCONNECTS)
@pytest.mark.parametrize("framing", [1000, None], ids=["length", "chunked"])
async def test_c1_a_disconnect_during_the_upload_reaches_no_upstream(
    serve: Serve, up: FaultUpstream, disconnect: str, framing: int | None
) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(framing) + (b"" if framing else b"5\r\n") + b'{"mod')
        await eventually(lambda: gate.gateway.metrics.in_flight == 1)
        DISCONNECTS[disconnect](client)
        await assert_disconnected(gate, "queue")
    assert up.ledger.accepted == 0


@EACH_FORM
@EACH_DISCONNECT
async def test_c1_a_disconnect_while_queued_reaches_no_upstream(serve: Serve, up: FaultUpstream, disconnect: str, stream: bool) -> None:
    gate = await serve((up, "silent"), every={"max_connections": 1})
    async with await FaultClient.connect(gate.port) as first, await FaultClient.connect(gate.port) as second:
        await first.post(chat())
        await up.wait_for(lambda up: len(up.requests) == 1)
        await second.post(chat(stream=stream))
        await eventually(lambda: gate.gateway.resources.native.waiting == 1)
        DISCONNECTS[disconnect](second)
        await eventually(lambda: gate.gateway.resources.native.waiting == 0)
        (record,) = [line for line in await early_records(gate, 1) if line["status"] == 499]
        assert record["aborted"] == "queue"
        first.fin()
        await gate.records(2)
    assert len(up.requests) == 1


async def early_records(gate: Gate, count: int) -> list[dict[str, object]]:
    """Return the records once there are `count`, although other calls are in flight."""
    await eventually(lambda: len(gate.lines()) >= count)
    return gate.lines()


async def test_c1_a_disconnect_during_the_upstream_connect_ends_the_attempt(serve: Serve, figure: Figure) -> None:
    with unreachable_base_url() as base_url:
        gate = await serve((base_url, "mock"), first={"connect": "20s"})
        async with await FaultClient.connect(gate.port) as client:
            await client.post(chat())
            await eventually(lambda: gate.gateway.resources.native.in_use == 1)
            client.fin()
            disconnected_at = time.monotonic()
            await eventually(lambda: gate.gateway.resources.native.in_use == 0)
            figure("connect aborted after", (time.monotonic() - disconnected_at) * 1000, "ms")
        await assert_disconnected(gate, "queue")


@EACH_FORM
@EACH_DISCONNECT
@pytest.mark.parametrize("behaviour", ["silent", "silent-after-head"])
async def test_c2_a_disconnect_before_the_first_byte_closes_the_upstream_connection(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, figure: Figure, disconnect: str, stream: bool, behaviour: str
) -> None:
    gate = await serve((up, behaviour), (other, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.post(chat(stream=stream))
        await up.wait_for(lambda up: len(up.requests) == 1)
        await sleep_in_turns(0.05)
        DISCONNECTS[disconnect](client)
        figure("upstream connection closed after", await closed_after(up, time.monotonic()) * 1000, "ms")
        await assert_disconnected(gate, "pre")
    assert (await gate.records(1))[0].get("output_tokens") is None
    assert other.requests == []


@EACH_DISCONNECT
async def test_c3_a_disconnect_in_mid_stream_closes_the_upstream_connection_and_is_billed(
    serve: Serve, up: FaultUpstream, figure: Figure, disconnect: str
) -> None:
    up.chunks, up.delay = 1000, 0.01
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.post(chat(stream=True))
        await client.read_until(b"w4 ")
        DISCONNECTS[disconnect](client)
        figure("upstream connection closed after", await closed_after(up, time.monotonic()) * 1000, "ms")
        await assert_disconnected(gate, "mid")
    (record,) = await gate.records(1)
    assert record["estimated"] is True
    assert 5 <= record["output_tokens"] <= up.requests[0].tokens + 1
    assert record["first_byte_ms"] > 0


async def test_c3_many_disconnects_at_once_are_all_detected(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    up.chunks, up.delay = 1000, 0.02
    gate = await serve((up, "mock"))
    clients = [await FaultClient.connect(gate.port) for _ in range(60)]
    for client in clients:
        await client.post(chat(stream=True))
    for client in clients:
        await client.read_until(b"w2 ")
    disconnected_at = time.monotonic()
    for client in clients:
        client.rst()
    taken = sorted([await closed_after(up, disconnected_at, index) for index in range(60)])
    figure("60 upstream connections closed: median", taken[30] * 1000, "ms")
    figure("60 upstream connections closed: slowest", taken[-1] * 1000, "ms")
    records = await gate.records(60)
    assert {record["aborted"] for record in records} == {"mid"}


@EACH_FORM
@pytest.mark.parametrize("disconnect", ["fin", "rst"])
async def test_c4_a_disconnect_after_the_last_byte_is_a_success(serve: Serve, up: FaultUpstream, disconnect: str, stream: bool) -> None:
    gate = await serve((up, "mock"))
    for _ in range(30):
        async with await FaultClient.connect(gate.port) as client:
            await client.post(chat(stream=stream))
            await client.read_until(b"[DONE]\n\n" if stream else b'"total_tokens": 7}}')
            DISCONNECTS[disconnect](client)
    records = await gate.records(30)
    assert {(record["status"], record.get("aborted")) for record in records} == {(200, None)}
    assert gate.gateway.metrics.counts["lockgate_client_aborts"] == {}


PADDING = "x" * 16_000


def flood(events: int) -> Script:
    """Return a script that streams `events` large events as fast as the reader accepts them."""

    async def script(exchange: Exchange) -> None:
        exchange.shrink_send_buffer()
        await exchange.start_stream()
        for number in range(events):
            await exchange.event(chat_chunk(f"{number}{PADDING} "), tokens=1)
            await exchange.sleep(0)
        await exchange.event(chat_chunk(finish="stop"))
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    return script


async def test_c5_a_slow_reader_holds_back_only_its_own_upstream_and_loses_nothing(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    up.on(lambda request: b"flood" in request.body, flood(2000))  # 32 MB
    up.chunks, up.delay = 30, 0.01
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port, receive_buffer=4096) as slow:
        await slow.post(chat(stream=True, user="flood"))
        await slow.read_until(b"\r\n\r\n")
        before = await up.settled()
        fast = await asyncio.gather(*(gate.ask(chat(stream=True)) for _ in range(20)))
        assert {answer.text for answer in fast} == {answer_text(30)}
        assert up.requests[0].sent < 2 << 20
        figure("sent ahead of a stalled reader, kernel buffers included", before / 1024, "KiB")
        answer = await slow.answer(within=30)
    assert answer.complete
    assert answer.events[-1] == b"[DONE]"
    assert answer.text == "".join(f"{number}{PADDING} " for number in range(2000))
    records = await gate.records(21)
    assert {(record["status"], record["stream_end"]) for record in records} == {(200, "ok")}


async def test_c5_stalled_readers_use_little_memory(gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure) -> None:
    up.on(CHAT_PATH, flood(2000))
    text = json.dumps({"providers": {"p": {"type": "openai-compatible", "base_url": up.base_url}}, "models": {"m": "p/mock"}})
    running = await asyncio.to_thread(gateway, text)
    port = running.port
    assert (await ask(port, chat(stream=True))).complete
    before = resident_bytes(running.pid)
    clients = [await FaultClient.connect(port, receive_buffer=4096) for _ in range(40)]
    for client in clients:
        await client.post(chat(stream=True))
    for client in clients:
        await client.read_until(b"\r\n\r\n")
    await asyncio.sleep(1.0)
    grown = (resident_bytes(running.pid) - before) / len(clients)
    figure("memory of each stalled reader", grown / 1024, "KiB")
    assert grown < 320 << 10
    for client in clients:
        client.rst()
    await up.wait_for(lambda up: up.ledger.open <= 1)
    await asyncio.to_thread(running.stop)
    assert len(running.records()) == 41


async def test_c6_a_reader_that_stalls_past_the_timeout_is_disconnected(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    up.on(CHAT_PATH, flood(2000))
    gate = await serve((up, "mock"), caller=CallerDeadlines(write_stall=0.4))
    async with await FaultClient.connect(gate.port, receive_buffer=4096) as client:
        started = time.monotonic()
        await client.post(chat(stream=True))
        await client.read_until(b"\r\n\r\n")
        await up.wait_for(lambda up: up.ledger.links[0].closed is not None)
        figure("disconnected after a write stall of 400 ms within", (time.monotonic() - started) * 1000, "ms")
        assert time.monotonic() - started < 10
        await client.until_closed()
        await assert_disconnected(gate, "write_stall")
    (record,) = await gate.records(1)
    assert record["estimated"] is True
    assert record["output_tokens"] > 0


async def test_c6_a_reader_that_pauses_within_the_timeout_gets_everything(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, flood(800))
    gate = await serve((up, "mock"), caller=CallerDeadlines(write_stall=5.0))
    async with await FaultClient.connect(gate.port, receive_buffer=4096) as client:
        await client.post(chat(stream=True))
        await client.read_until(b"\r\n\r\n")
        await asyncio.sleep(0.8)
        answer = await client.answer()
    assert answer.text == "".join(f"{number}{PADDING} " for number in range(800))
    await gate.record(status=200, stream_end="ok")


BATCH = 125


async def disconnect_early(port: int, draw: random.Random) -> None:
    """Make one call and disconnect after at most 40 ms."""
    async with await FaultClient.connect(port) as client:
        await client.post(chat(stream=draw.random() < 0.5))
        await asyncio.sleep(draw.random() * 0.04)
        client.rst() if draw.random() < 0.5 else client.fin()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("cancels", [1_000, pytest.param(10_000, marks=pytest.mark.prove)])
async def test_u42_calls_succeed_after_thousands_of_disconnects_under_contention(
    serve: Serve, up: FaultUpstream, figure: Figure, cancels: int
) -> None:
    up.delay = 0.01
    gate = await serve((up, "mock"), every={"max_connections": 10})
    draw = random.Random(42)
    before = time.monotonic()
    for _ in range(cancels // BATCH):
        await asyncio.gather(*(disconnect_early(gate.port, draw) for _ in range(BATCH)))
    await eventually(lambda: gate.gateway.metrics.in_flight == 0, within=30)
    figure(f"{cancels} disconnects", time.monotonic() - before, "s")
    assert gate.gateway.resources.native.in_use == 0
    assert gate.gateway.resources.native.waiting == 0
    up.delay = 0.0
    probes = await asyncio.gather(*(gate.ask(chat(stream=index % 2 == 0)) for index in range(20)))
    assert [probe.status for probe in probes] == [200] * 20
    assert gate.gateway.resources.native.in_use == 0
    # A reset also discards requests that the gateway has not read yet. They are neither counted nor logged.
    records = await gate.records(gate.count("lockgate_requests"))
    aborted = sum(record["status"] == 499 for record in records)
    assert aborted > cancels / 2
    figure("of them recorded as disconnects", aborted, "")
    figure("of them received by the upstream", len(up.requests) - 20, "")
    await up.wait_for(lambda up: up.ledger.open <= 10)

"""The catalogue's rows about callers who leave, read slowly or stop reading: the upstream is let go, and one record says so."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.http.caller import CallerDeadlines
from tests.faults.behaviours import chat_chunk
from tests.faults.client import FaultClient, ask, chat, request_head
from tests.faults.conftest import Gate, Serve
from tests.faults.test_failures_before_content import black_hole
from tests.faults.upstream_server import Exchange, FaultUpstream, Script
from tests.flows.live import eventually
from tests.running import Figure, RunningGateway

Leave = Callable[[FaultClient], None]
LEAVING: dict[str, Leave] = {"fin": FaultClient.fin, "rst": FaultClient.rst, "half-close": FaultClient.half_close}
EACH_WAY = pytest.mark.parametrize("way", LEAVING)
EACH_FORM = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


async def let_go_after(up: FaultUpstream, left: float, at: int = 0) -> float:
    """Seconds from `left` to the moment at which the upstream saw its connection `at` closed; AssertionError beyond 2."""
    await up.wait_for(lambda up: up.ledger.links[at].closed is not None)
    closed = up.ledger.links[at].closed
    assert closed is not None
    assert closed - left < 2
    return closed - left


async def assert_left(gate: Gate, phase: str) -> None:
    """The only call's caller left in that phase."""
    await gate.record(status=499, aborted=phase)
    assert gate.gateway.metrics.counts["lockgate_client_aborts"] == {(phase,): 1}
    assert gate.count("lockgate_requests", "499", "client_closed") == 1
    assert gate.count("lockgate_upstream_errors") == 0


@EACH_WAY
@pytest.mark.parametrize("framing", [1000, None], ids=["length", "chunked"])
async def test_c1_a_disconnect_during_the_upload_reaches_no_upstream(
    serve: Serve, up: FaultUpstream, way: str, framing: int | None
) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(framing) + (b"" if framing else b"5\r\n") + b'{"mod')
        await eventually(lambda: gate.gateway.metrics.in_flight == 1)
        LEAVING[way](client)
        await assert_left(gate, "queue")
    assert up.ledger.accepted == 0


@EACH_FORM
@EACH_WAY
async def test_c1_a_disconnect_while_queued_reaches_no_upstream(serve: Serve, up: FaultUpstream, way: str, stream: bool) -> None:
    gate = await serve((up, "silent"), every={"max_connections": 1})
    async with await FaultClient.connect(gate.port) as first, await FaultClient.connect(gate.port) as second:
        await first.post(chat())
        await up.wait_for(lambda up: len(up.requests) == 1)
        await second.post(chat(stream=stream))
        await eventually(lambda: gate.gateway.resources.native.waiting == 1)
        LEAVING[way](second)
        await eventually(lambda: gate.gateway.resources.native.waiting == 0)
        (record,) = [line for line in await gate_records(gate, 1) if line["status"] == 499]
        assert record["aborted"] == "queue"
        first.fin()
        await gate.records(2)
    assert len(up.requests) == 1


async def gate_records(gate: Gate, count: int) -> list[dict[str, object]]:
    """The records so far, once there are `count`, while other calls go on."""
    await eventually(lambda: len(gate.lines()) >= count)
    return gate.lines()


async def test_c1_a_disconnect_during_the_upstream_connect_ends_the_attempt(serve: Serve, figure: Figure) -> None:
    with black_hole() as base_url:
        gate = await serve((base_url, "mock"), first={"connect": "20s"})
        async with await FaultClient.connect(gate.port) as client:
            await client.post(chat())
            await eventually(lambda: gate.gateway.resources.native.in_use == 1)
            client.fin()
            left = time.monotonic()
            await eventually(lambda: gate.gateway.resources.native.in_use == 0)
            figure("dialling given up after", (time.monotonic() - left) * 1000, "ms")
            assert time.monotonic() - left < 2
        await assert_left(gate, "queue")


@EACH_FORM
@EACH_WAY
@pytest.mark.parametrize("behaviour", ["silent", "silent-after-head"])
async def test_c2_a_disconnect_before_the_first_byte_closes_the_upstream_connection(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, figure: Figure, way: str, stream: bool, behaviour: str
) -> None:
    gate = await serve((up, behaviour), (other, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.post(chat(stream=stream))
        await up.wait_for(lambda up: len(up.requests) == 1)
        await asyncio.sleep(0.05)
        LEAVING[way](client)
        figure("upstream let go after", await let_go_after(up, time.monotonic()) * 1000, "ms")
        await assert_left(gate, "pre")
    assert (await gate.records(1))[0].get("output_tokens") is None
    assert other.requests == []


@EACH_WAY
async def test_c3_a_disconnect_in_mid_stream_closes_the_upstream_connection_and_is_billed(
    serve: Serve, up: FaultUpstream, figure: Figure, way: str
) -> None:
    up.chunks, up.delay = 1000, 0.01
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.post(chat(stream=True))
        await client.read_until(b"w4 ")
        LEAVING[way](client)
        figure("upstream let go after", await let_go_after(up, time.monotonic()) * 1000, "ms")
        await assert_left(gate, "mid")
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
    left = time.monotonic()
    for client in clients:
        client.rst()
    taken = sorted([await let_go_after(up, left, at) for at in range(60)])
    figure("60 upstreams let go: median", taken[30] * 1000, "ms")
    figure("60 upstreams let go: slowest", taken[-1] * 1000, "ms")
    records = await gate.records(60)
    assert {record["aborted"] for record in records} == {"mid"}


@EACH_FORM
@pytest.mark.parametrize("way", ["fin", "rst"])
async def test_c4_a_disconnect_after_the_last_byte_is_a_success(serve: Serve, up: FaultUpstream, way: str, stream: bool) -> None:
    gate = await serve((up, "mock"))
    for _ in range(30):
        async with await FaultClient.connect(gate.port) as client:
            await client.post(chat(stream=stream))
            await client.read_until(b"[DONE]\n\n" if stream else b'"total_tokens": 7}}')
            LEAVING[way](client)
    records = await gate.records(30)
    assert {(record["status"], record.get("aborted")) for record in records} == {(200, None)}
    assert gate.gateway.metrics.counts["lockgate_client_aborts"] == {}


BIG = "x" * 16_000


def flood(events: int) -> Script:
    """A script: a stream of `events` big events as fast as the reader takes them."""

    async def script(exchange: Exchange) -> None:
        exchange.hold_little()
        await exchange.start_stream()
        for at in range(events):
            await exchange.event(chat_chunk(f"{at}{BIG} "), tokens=1)
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
        before = -1
        while before != up.requests[0].sent:
            before = up.requests[0].sent
            await asyncio.sleep(0.5)
        fast = await asyncio.gather(*(gate.ask(chat(stream=True)) for _ in range(20)))
        assert {answer.text for answer in fast} == {"".join(f"w{at} " for at in range(30))}
        assert up.requests[0].sent == before < 2 << 20
        figure("sent ahead of a reader who reads nothing, kernel buffers included", before / 1024, "KiB")
        answer = await slow.answer(within=30)
    assert answer.complete
    assert answer.events[-1] == b"[DONE]"
    assert answer.text == "".join(f"{at}{BIG} " for at in range(2000))
    records = await gate.records(21)
    assert {(record["status"], record["stream_end"]) for record in records} == {(200, "ok")}


def memory_of(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


async def test_c5_stalled_readers_use_little_memory(gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure) -> None:
    up.on("/v1/chat/completions", flood(2000))
    text = json.dumps({"providers": {"p": {"type": "openai-compatible", "base_url": up.base_url}}, "models": {"m": "p/mock"}})
    running = await asyncio.to_thread(gateway, text)
    port = int(running.url.rsplit(":", 1)[1])
    assert (await ask(port, chat(stream=True))).complete
    before = memory_of(running.pid)
    clients = [await FaultClient.connect(port, receive_buffer=4096) for _ in range(40)]
    for client in clients:
        await client.post(chat(stream=True))
    for client in clients:
        await client.read_until(b"\r\n\r\n")
    await asyncio.sleep(1.0)
    grown = (memory_of(running.pid) - before) / len(clients)
    figure("memory for each reader who reads nothing", grown / 1024, "KiB")
    assert grown < 320 << 10
    for client in clients:
        client.rst()
    await up.wait_for(lambda up: up.ledger.open <= 1)
    await asyncio.to_thread(running.stop)
    assert len(running.records()) == 41


async def test_c6_a_reader_that_stalls_past_the_timeout_is_disconnected(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    up.on("/v1/chat/completions", flood(2000))
    gate = await serve((up, "mock"), caller=CallerDeadlines(write_stall=0.4))
    async with await FaultClient.connect(gate.port, receive_buffer=4096) as client:
        started = time.monotonic()
        await client.post(chat(stream=True))
        await client.read_until(b"\r\n\r\n")
        await up.wait_for(lambda up: up.ledger.links[0].closed is not None)
        figure("cut off by a write stall of 400 ms after", (time.monotonic() - started) * 1000, "ms")
        assert time.monotonic() - started < 10
        await client.until_closed()
        await assert_left(gate, "write_stall")
    (record,) = await gate.records(1)
    assert record["estimated"] is True
    assert record["output_tokens"] > 0


async def test_c6_a_reader_that_pauses_within_the_timeout_gets_everything(serve: Serve, up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", flood(800))
    gate = await serve((up, "mock"), caller=CallerDeadlines(write_stall=5.0))
    async with await FaultClient.connect(gate.port, receive_buffer=4096) as client:
        await client.post(chat(stream=True))
        await client.read_until(b"\r\n\r\n")
        await asyncio.sleep(0.8)
        answer = await client.answer()
    assert answer.text == "".join(f"{at}{BIG} " for at in range(800))
    await gate.record(status=200, stream_end="ok")


BATCH = 125


async def leave_early(port: int, draw: random.Random) -> None:
    """One call given up after up to 40 ms, wherever it is by then."""
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
        await asyncio.gather(*(leave_early(gate.port, draw) for _ in range(BATCH)))
    await eventually(lambda: gate.gateway.metrics.in_flight == 0, within=30)
    figure(f"{cancels} cancels", time.monotonic() - before, "s")
    assert gate.gateway.resources.native.in_use == 0
    assert gate.gateway.resources.native.waiting == 0
    up.delay = 0.0
    probes = await asyncio.gather(*(gate.ask(chat(stream=at % 2 == 0)) for at in range(20)))
    assert [probe.status for probe in probes] == [200] * 20
    assert gate.gateway.resources.native.in_use == 0
    records = await gate.records(cancels + 20)
    aborted = sum(record["status"] == 499 for record in records)
    assert aborted > cancels / 2
    figure("of them cancelled in time to count", aborted, "")
    figure("of them seen by the upstream", len(up.requests) - 20, "")
    await up.wait_for(lambda up: up.ledger.open <= 10)

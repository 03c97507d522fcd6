"""Two thousand slow streams through one worker: what each costs, and that nothing of any is lost; how soon those who leave are let go."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.client import FaultClient, ask, chat
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

STREAMS, EVENTS, PACE = 2000, 12, 2.0
MOST_KIB = 40.0
"""What one stream may take of memory: its share of the process (PSS) over that of the idle process."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Two sockets a stream in the gateway, one here and one in the upstream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * STREAMS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def distant_upstream() -> Iterator[str]:
    """The fault upstream in a process of its own; its base URL."""
    command = [sys.executable, "-m", "tests.faults.upstream_server", "--chunks", str(EVENTS), "--delay", str(PACE * 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def pss_of(pid: int) -> float:
    """A process's share of memory, in KiB."""
    return float(re.findall(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[0])


def config(base_url: str) -> str:
    """One model at that upstream, and room for all streams."""
    provider = {"type": "openai-compatible", "base_url": base_url, "max_connections": STREAMS + 100}
    return json.dumps({"providers": {"p": provider}, "models": {"m": "p/mock", "silent": "p/silent"}})


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_g9_2000_slow_streams_use_little_memory_and_lose_nothing(
    gateway: Callable[..., RunningGateway], many_files: None, distant_upstream: str, figure: Figure
) -> None:
    running = await asyncio.to_thread(gateway, config(distant_upstream))
    port = int(running.url.rsplit(":", 1)[1])
    for _ in range(3):
        assert (await ask(port, chat(stream=True, max_tokens=1))).complete
    idle = pss_of(running.pid)
    begun = time.monotonic()

    async def read() -> str:
        async with await FaultClient.connect(port) as client:
            await client.post(chat(stream=True))
            answer = await client.answer(within=120)
            assert answer.events[-1] == b"[DONE]"
            return answer.text

    readers = []
    for at in range(STREAMS):
        readers.append(asyncio.create_task(read()))
        if at % 50 == 49:
            await asyncio.sleep(0.02)
    await asyncio.sleep(EVENTS * PACE / 2)
    assert not any(reader.done() for reader in readers)
    each = (pss_of(running.pid) - idle) / STREAMS
    figure(f"memory of each of {STREAMS} slow streams (PSS)", each, "KiB")
    texts = await asyncio.gather(*readers)
    figure(f"{STREAMS} streams of {EVENTS} events", time.monotonic() - begun, "s")
    whole = "".join(f"w{at} " for at in range(EVENTS))
    assert sum(text == whole for text in texts) == STREAMS
    assert each <= MOST_KIB
    await asyncio.to_thread(running.stop)
    records = running.records()
    assert sum(record.get("stream_end") == "ok" for record in records) == STREAMS + 3


@pytest.mark.prove
@pytest.mark.timeout(120)
async def test_c2_c3_a_disconnect_closes_the_upstream_connection_among_400_streams(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, many_files: None, figure: Figure
) -> None:
    up.chunks, up.delay = 1000, 0.25
    running = await asyncio.to_thread(gateway, config(up.base_url))
    port = int(running.url.rsplit(":", 1)[1])
    staying = [await open_call(port, "stays", stream=True) for _ in range(400)]
    for name, fields in (("mid-stream", {"stream": True}), ("before the first byte", {"model": "silent", "stream": True}), ("json", {})):
        clients = [await open_call(port, f"{name} {at}", **fields) for at in range(200)]
        await up.wait_for(lambda up, name=name: sum(asked_by(request).startswith(name) for request in up.requests) == 200)
        await asyncio.sleep(0.3)
        left = []
        for client in clients:
            left.append(time.monotonic())
            client.rst()
            await asyncio.sleep(0.002)
        links = {asked_by(request): request.link for request in up.requests}
        gone = [links[f"{name} {at}"] for at in range(200)]
        await up.wait_for(lambda up, gone=gone: all(link.closed is not None for link in gone))
        took = sorted((link.closed or 0) - at for link, at in zip(gone, left, strict=True))
        figure(f"left {name}, 400 other streams running: upstream let go, median", took[100] * 1000, "ms")
        figure(f"left {name}, 400 other streams running: upstream let go, p99", took[197] * 1000, "ms")
        assert took[-1] < 5
    for client in staying:
        client.rst()
    await up.wait_for(lambda up: up.ledger.open == 0)
    await asyncio.to_thread(running.stop)
    assert sum(record.get("status") == 499 for record in running.records()) == 1000


def asked_by(request: object) -> str:
    """Who asked: the body's `user`."""
    return str(request.json.get("user"))  # type: ignore[attr-defined]


async def open_call(port: int, user: str, *, model: str = "m", **fields: object) -> FaultClient:
    """A call that is sent and not read."""
    client = await FaultClient.connect(port)
    await client.post(chat(model, user=user, **fields))
    return client

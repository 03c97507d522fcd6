"""2,000 slow streams in one worker: memory, completeness, and the effect of disconnects on upstream connections."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.chat_script import answer_text
from tests.faults.client import FaultClient, ask, chat
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway
from tests.support.process_memory import proportional_bytes

STREAMS, EVENTS, EVENT_INTERVAL_S = 2000, 12, 2.0
MAX_STREAM_KIB = 40.0
"""Maximum growth of the gateway's memory (PSS) for each stream."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files: each stream needs two in the gateway, one here and one in the upstream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * STREAMS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def distant_upstream() -> Iterator[str]:
    """Start the fault upstream in its own process and return its base URL."""
    command = [sys.executable, "-m", "tests.faults.upstream_server", "--chunks", str(EVENTS), "--delay", str(EVENT_INTERVAL_S * 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def config(base_url: str) -> str:
    """Return a configuration with enough connections to this upstream for all streams."""
    provider = {"type": "openai-compatible", "base_url": base_url, "max_connections": STREAMS + 100}
    return json.dumps({"providers": {"p": provider}, "models": {"m": "p/mock", "silent": "p/silent"}})


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_g9_2000_slow_streams_use_little_memory_and_lose_nothing(
    gateway: Callable[..., RunningGateway], many_files: None, distant_upstream: str, figure: Figure
) -> None:
    running = await asyncio.to_thread(gateway, config(distant_upstream))
    port = running.port
    for _ in range(3):
        assert (await ask(port, chat(stream=True, max_tokens=1))).complete
    idle = proportional_bytes(running.pid)
    started = time.monotonic()

    async def read() -> str:
        async with await FaultClient.connect(port) as client:
            await client.post(chat(stream=True))
            answer = await client.answer(within=120)
            assert answer.events[-1] == b"[DONE]"
            return answer.text

    readers = []
    for number in range(STREAMS):
        readers.append(asyncio.create_task(read()))
        if number % 50 == 49:
            await asyncio.sleep(0.02)
    await asyncio.sleep(EVENTS * EVENT_INTERVAL_S / 2)
    assert not any(reader.done() for reader in readers)
    kib_per_stream = (proportional_bytes(running.pid) - idle) / 1024 / STREAMS
    figure(f"memory of each of {STREAMS} slow streams (PSS)", kib_per_stream, "KiB")
    texts = await asyncio.gather(*readers)
    figure(f"{STREAMS} streams of {EVENTS} events", time.monotonic() - started, "s")
    expected = answer_text(EVENTS)
    assert sum(text == expected for text in texts) == STREAMS
    assert kib_per_stream <= MAX_STREAM_KIB
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
    port = running.port
    staying = [await open_call(port, "stays", stream=True) for _ in range(400)]
    for name, fields in (("mid-stream", {"stream": True}), ("before the first byte", {"model": "silent", "stream": True}), ("json", {})):
        clients = [await open_call(port, f"{name} {number}", **fields) for number in range(200)]
        await up.wait_for(lambda up, name=name: sum(user_of(request).startswith(name) for request in up.requests) == 200)
        await asyncio.sleep(0.3)
        disconnected_at = []
        for client in clients:
            disconnected_at.append(time.monotonic())
            client.rst()
            await asyncio.sleep(0.002)
        links = {user_of(request): request.link for request in up.requests}
        closing = [links[f"{name} {number}"] for number in range(200)]
        await up.wait_for(lambda up, closing=closing: all(link.closed is not None for link in closing))
        took = sorted((link.closed or 0) - start for link, start in zip(closing, disconnected_at, strict=True))
        figure(f"disconnect {name}, 400 other streams running: upstream connection closed, median", took[100] * 1000, "ms")
        figure(f"disconnect {name}, 400 other streams running: upstream connection closed, p99", took[197] * 1000, "ms")
    for client in staying:
        client.rst()
    await up.wait_for(lambda up: up.ledger.open == 0)
    await asyncio.to_thread(running.stop)
    assert sum(record.get("status") == 499 for record in running.records()) == 1000


def user_of(request: object) -> str:
    """Return `user` of a request."""
    return str(request.json.get("user"))  # type: ignore[attr-defined]


async def open_call(port: int, user: str, *, model: str = "m", **fields: object) -> FaultClient:
    """Send a call and do not read its answer. Return the connection."""
    client = await FaultClient.connect(port)
    await client.post(chat(model, user=user, **fields))
    return client

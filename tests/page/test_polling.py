"""The cost of an open page for a gateway that serves 2,000 streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.client import FaultClient, chat
from tests.faults.test_many_streams_proof import STREAMS, many_files
from tests.faults.upstream_server import HANG, FaultUpstream
from tests.flows.test_process_faults import cpu_seconds
from tests.running import Figure, RunningGateway

__all__ = ["many_files"]
POLL_INTERVAL_S = 2.0
"""The page polls this often (POLL_MS in base.js)."""
POLLS = 100
MAX_SHARE_OF_A_CORE = 0.01


@pytest.mark.prove
@pytest.mark.timeout(180)
async def test_an_open_page_uses_little_of_a_core_while_2000_streams_run(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, client: httpx.AsyncClient, many_files: None, figure: Figure
) -> None:
    up.on("/v1/chat/completions", sse(chat_chunk("one"), ending=HANG))
    provider = {"type": "openai-compatible", "base_url": up.base_url, "max_connections": STREAMS + 100}
    running = await asyncio.to_thread(gateway, json.dumps({"providers": {"p": provider}, "models": {"m": "p/mock"}}))
    streams = []
    for _ in range(STREAMS):
        stream = await FaultClient.connect(running.port)
        await stream.post(chat(stream=True))
        streams.append(stream)
    await up.wait_for(lambda up: len(up.requests) == STREAMS)
    shown = (await client.get(f"{running.admin_url}/admin/live")).json()
    before = await asyncio.to_thread(cpu_seconds, running.pid)
    for _ in range(POLLS):
        shown = (await client.get(f"{running.admin_url}/admin/live?since={shown['now'] - POLL_INTERVAL_S}")).json()
    used = await asyncio.to_thread(cpu_seconds, running.pid) - before
    assert shown["in_flight"] == {"calls": STREAMS, "streams": STREAMS}
    figure(f"share of a core that one page uses with {STREAMS} streams", 100 * used / POLLS / POLL_INTERVAL_S, "%")
    assert used / POLLS <= MAX_SHARE_OF_A_CORE * POLL_INTERVAL_S
    for stream in streams:
        stream.rst()
    await up.wait_for(lambda up: up.ledger.open == 0)

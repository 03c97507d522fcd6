"""Calls leave nothing to the garbage collector: reference counts free a call, its body, its decisions and its connection at its end."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter

import pytest

from tests.fast.conftest import StartPair
from tests.fast.test_steps import other_upstream, send_calls
from tests.faults.client import chat
from tests.flows.live import Live, eventually
from tests.support.redis import RedisServer

__all__ = ["other_upstream"]

CALLS = 50
FEW = 100
"""Objects in cycles that the timers of the gateway may leave. A connection with its parser and its last request has more than 30."""


async def garbage_of_calls(gateway: Live, stream: bool, connections: int) -> Counter[str]:
    """Return the types of the objects that only the garbage collector frees after CALLS calls on several connections."""
    body = json.dumps({**chat(), "stream": True} if stream else chat()).encode()
    await asyncio.to_thread(send_calls, gateway.port, body, 5)
    await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(connections):
            await asyncio.to_thread(send_calls, gateway.port, body, CALLS // connections)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        await asyncio.sleep(0.2)  # settlements are sent after a short time
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("connections", [1, CALLS], ids=["one-connection", "many-connections"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_calls_leave_no_cycles_of_references(
    other_upstream: int, own_redis: RedisServer, start_pair: StartPair, stream: bool, connections: int
) -> None:
    pair = await start_pair(f"""
store: redis://127.0.0.1:{own_redis.port}/0
store_deadline: 5s
providers:
  up: {{ type: openai-compatible, base_url: "http://127.0.0.1:{other_upstream}/v1" }}
models:
  m: {{ targets: up/mock, limits: {{ requests: 1M/min, tokens: 1000M/min }} }}
""")
    for gateway in pair.both:
        found = await garbage_of_calls(gateway, stream, connections)
        assert found.total() < FEW, found.most_common(12)

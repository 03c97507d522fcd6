"""The page's endpoints at a gateway with several workers: the supervisor answers them, and the workers serve the calls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.running import RunningGateway
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis

__all__ = ["own_redis"]
TOKEN = "lg-page-workers-0123456789abcdef"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "top_k": 5}
CALLS = 12


@pytest.mark.prove
async def test_calls_of_the_page_reach_the_workers_and_are_counted_together(
    up: FaultUpstream, own_redis: RedisServer, gateway: Callable[..., RunningGateway], client: httpx.AsyncClient
) -> None:
    yaml = f"""
store: {own_redis.url}
store_deadline: 10s
journal: state
providers:
  up: {{ type: groq, base_url: "{up.base_url}" }}
models:
  m: up/mock
keys:
  team: {{ hash: "sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}" }}
"""
    running = await asyncio.to_thread(gateway, yaml, {}, ("--workers", "2"))
    await asyncio.to_thread(running.wait_ready)
    relay = f"{running.admin_url}/admin/relay/v1/chat/completions"
    assert (await client.post(relay, json=BODY)).status_code == 401
    answers = await asyncio.gather(*(client.post(relay, json=BODY, headers={"x-virtual-key": TOKEN}) for _ in range(CALLS)))
    assert [answer.status_code for answer in answers] == [200] * CALLS
    explained = (await client.post(f"{running.admin_url}/admin/explain", json={"body": BODY})).json()
    assert explained["targets"][0]["request"]["body"] == up.requests[-1].json
    assert [each["param"] for each in explained["targets"][0]["adjustments"]] == ["top_k"]
    shown: dict[str, Any] = {}
    async with asyncio.timeout(60):
        while sum(shown.get("calls", ())) < CALLS + 1:
            await asyncio.sleep(0.2)
            live = (await client.get(f"{running.admin_url}/admin/live")).json()
            shown = live["points"]
    assert (sum(shown["calls"]), sum(shown["refused"])) == (CALLS + 1, 1)
    assert live["shares"]["m"] == {"up/mock": CALLS}
    assert live["in_flight"] == {"calls": 0, "streams": 0}

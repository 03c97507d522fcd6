"""The calls of all workers are listed by their supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, one_model
from tests.running import RunningGateway
from tests.support.redis import RedisServer


@pytest.mark.prove
async def test_the_calls_of_all_workers_are_listed_once(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer, gateway: Callable[..., RunningGateway]
) -> None:
    config = f"store: {own_redis.url}\nstore_deadline: 10s\n" + one_model(up)
    running = await asyncio.to_thread(gateway, config, {"UP_KEY": CREDENTIAL}, ("--workers", "2"))
    await asyncio.to_thread(running.wait_ready)

    async def one_call() -> str:
        async with httpx.AsyncClient(trust_env=False) as own:  # a connection of its own, which either worker accepts
            return (await own.post(running.base_url + "/chat/completions", json=chat())).headers["x-request-id"]

    ids = sorted([await one_call() for _ in range(16)])
    found: list[str] = []
    for _ in range(1000):
        listed = (await client.get(running.admin_url + "/admin/calls")).json()
        found = sorted(call["id"] for call in listed["data"])
        if len(found) >= len(ids):
            break
        await asyncio.sleep(0.05)
    assert found == ids
    assert (await client.get(f"{running.admin_url}/admin/calls/{ids[0]}")).json()["data"][0]["target"] == "up/mock"
    assert "lockgate_call_record_drops_total 0" in (await client.get(running.admin_url + "/metrics")).text

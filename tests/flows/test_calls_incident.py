"""An incident on two gateway processes that share a Redis, explained by the real command line at either of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, held
from tests.flows.operator import bearer, digest
from tests.running import RunningGateway
from tests.support.redis import RedisServer

SEARCH, BATCH = "lg-search-0123456789abcdef", "lg-batch-0123456789abcdef"
SLOW_S = 0.4


def configuration(up: FaultUpstream, redis: RedisServer) -> str:
    """Return a configuration with a target that fails, one with a single slot, and keys with a limit and a budget."""
    prices = '{ "*": { prompt: 10, output: 100 } }'
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", prices: {prices}'
    return f"""
store: {redis.url}
store_deadline: 10s
calls: {{ store: redis }}
providers:
  broken: {provider} }}
  small: {provider}, max_concurrent: 1, max_wait: 20s }}
models:
  m: {{ targets: [broken/a, small/b], retries: 0 }}
  direct: small/b
teams:
  search: {{ limits: {{ spend: 1 USD/day }} }}
keys:
  search: {{ hash: '{digest(SEARCH)}', team: search }}
  batch: {{ hash: '{digest(BATCH)}', limits: {{ requests: 1/h }} }}
"""


async def lockgate(running: RunningGateway, *args: str) -> str:
    """Return the output of `lockgate calls`."""
    command = [sys.executable, "-m", "gateway", "calls", *args, "--admin", running.admin_url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def listed(running: RunningGateway, *args: str, count: int) -> dict[str, Any]:
    """Return the calls that match once there are `count`: another process records its calls every half second."""
    for _ in range(60):
        found: dict[str, Any] = json.loads(await lockgate(running, *args, "--json"))
        if found["total"]["calls"] >= count:
            break
        await asyncio.sleep(0.5)
    assert found["total"]["calls"] == count, found
    return found


async def until_one_waits(client: httpx.AsyncClient, running: RunningGateway) -> None:
    """Wait until a call waits for a slot of a target."""
    for _ in range(600):
        targets = (await client.get(running.admin_url + "/admin/targets")).json()["targets"]
        if any(target["waiting"] for target in targets):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("no call waits")


@pytest.mark.prove
async def test_an_operator_finds_why_calls_were_slow_refused_and_dear(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer, gateway: Callable[..., RunningGateway]
) -> None:
    up.on(lambda request: request.model == "a", status(500, "out of order"))
    released = asyncio.Event()
    up.on(lambda request: request.model == "b", held(released))
    environ = {"UP_KEY": CREDENTIAL}
    one, other = [await asyncio.to_thread(gateway, configuration(up, own_redis), environ) for _ in range(2)]
    for running in (one, other):
        await asyncio.to_thread(running.wait_ready)

    async def call(running: RunningGateway, key: str, model: str, user: str) -> httpx.Response:
        return await client.post(running.base_url + "/chat/completions", json=chat(model, user=user), headers=bearer(key))

    calls = [asyncio.create_task(call(one, SEARCH, model, user)) for model, user in (("m", "ann"), ("direct", "bob"))]
    await until_one_waits(client, one)
    await asyncio.sleep(SLOW_S)
    released.set()
    answers = await asyncio.gather(*calls)
    first, refused = await call(one, BATCH, "direct", "cron"), await call(other, BATCH, "direct", "cron")
    assert [answer.status_code for answer in (*answers, first, refused)] == [200, 200, 200, 429]

    # why was it slow: the failed attempt, or the wait for the only slot, each with its time
    slow = (await listed(other, "--team", "search", "--slow", f"{SLOW_S * 1000:.0f}ms", count=2))["data"]
    by_user = {record["end_user"]: record for record in slow}
    assert [attempt["outcome"] for attempt in by_user["ann"]["attempts"]] == ["500", "ok"]
    (queued,) = [record for record in slow if record.get("queue_ms", 0) >= SLOW_S * 1000]
    assert "queue of small/b" in await lockgate(other, queued["id"])
    assert "broken/a: 500" in await lockgate(other, by_user["ann"]["id"])

    # why was it refused: the limit, although the call that used it up went to another process
    (record,) = (await listed(one, "--status", "429", count=1))["data"]
    assert (record["id"], record["end_user"]) == (refused.headers["x-request-id"], "cron")
    assert "refused by 1 request per h for key:batch: 1 of 1 used, free again after" in await lockgate(one, record["id"])

    # what did it cost: the same amount as in the ledger, and as in the budget
    found = await listed(one, "--team", "search", "--cost", count=2)
    costs = [record["cost_usd"] for record in found["data"]]
    assert found["total"]["cost_usd"] == pytest.approx(sum(costs))
    assert min(costs) > 0
    usage = (await client.get(f"{one.admin_url}/admin/usage?by=team")).json()
    (row,) = [row for row in usage["rows"] if row["team"] == "search"]
    assert row["cost_usd"] == pytest.approx(found["total"]["cost_usd"])
    budgets = (await client.get(f"{other.admin_url}/admin/limits?owner=team:search")).json()["data"]
    assert budgets[0]["used"] == pytest.approx(found["total"]["cost_usd"])

"""Gateways with a store behind Sentinel or in a cluster: limits of both sides, run-time keys, usage and metrics."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import eventually, live
from tests.flows.operator import ADMIN, KEYED, Operator, bearer
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.redis_topologies import ClusterServers, SentinelServers

FIRST = "sha256:" + "0" * 62 + "1f"


@pytest.mark.parametrize("servers", ["sentinel", "cluster"], indirect=True)
async def test_two_gateways_share_limits_keys_and_usage_in_each_topology(
    servers: ClusterServers | SentinelServers, up: FaultUpstream
) -> None:
    await servers.empty()
    yaml = f"""
store: {servers.url}
store_deadline: 10s
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", limits: {{ requests: 9/h, concurrent: 50 }} }}
models:
  m: up/mock
keys:
  first: {{ hash: "{FIRST}" }}
{KEYED}"""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30))
        one, other = [await stack.enter_async_context(live(yaml, environ={"UP_KEY": CREDENTIAL})) for _ in range(2)]
        operators = [Operator(client, gateway) for gateway in (one, other)]
        token = await operators[0].make("new", limits={"requests": "7/h", "concurrent": 5})
        spare = await operators[0].make("spare")
        await eventually(lambda: {"new", "spare"} <= set(other.gateway.runtime_keys.keys))
        answers = [await operators[at % 2].call(token) for at in range(9)]
        assert [answer.status_code for answer in answers] == [200] * 7 + [429] * 2
        assert not [answer for answer in answers if "x-gateway-limits" in answer.headers]
        answers = [await operators[at % 2].call(spare) for at in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 2 + [429] * 2  # the limit of the provider is nine
        for gateway in (one, other):
            assert (await client.get(gateway.admin_url + "/metrics", headers=bearer(ADMIN))).status_code == 200

            async def told(url: str = gateway.admin_url) -> int:
                answer = await client.get(url + "/admin/usage", params={"by": "key"}, headers=bearer(ADMIN))
                assert answer.status_code == 200, answer.text
                return sum(int(row["requests"]) for row in answer.json()["rows"])

            deadline = 600
            while (found := await told()) < 9 and deadline:
                deadline -= 1
                await asyncio.sleep(0.1)
            assert found >= 9
            assert gateway.reports == []
            assert gateway.gateway.metrics.in_flight == 0

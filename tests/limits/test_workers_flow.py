"""Several workers of one gateway, and a second gateway, share their limits through Redis."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import httpx

from tests.faults.upstream_server import FaultUpstream
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.redis import RedisServer

TOKEN = "lg-workers-0123456789abcdef"


async def test_workers_and_gateways_share_one_limit(
    up: FaultUpstream, own_redis: RedisServer, gateway: Callable[..., RunningGateway]
) -> None:
    yaml = f"""
store: {own_redis.url}
store_deadline: 10s
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: up/mock
keys:
  team: {{ hash: "sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}", limits: {{ requests: 17/h, concurrent: 1000 }} }}
"""
    env = {"UP_KEY": "sk-upstream-credential"}
    both = [await asyncio.to_thread(gateway, yaml, env, ("--workers", "2")), await asyncio.to_thread(gateway, yaml, env)]
    for one in both:
        await asyncio.to_thread(one.wait_ready)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as client:
        calls = [
            client.post(one.base_url + "/chat/completions", json=body, headers={"authorization": f"Bearer {TOKEN}"}) for one in both * 20
        ]
        answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] * 17 + [429] * 23
    for one in both:  # the supervisor does not use the store and does not report its state
        assert (
            "\nlockgate_store_up 1.0\n"
            in (await asyncio.to_thread(httpx.get, one.admin_url + "/metrics", trust_env=False, timeout=30)).text
        )
    assert not [answer for answer in answers if "x-gateway-limits" in answer.headers]

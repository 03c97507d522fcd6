"""Limits during a call: rejections and their headers, settlement, refunds and fallback to the next target."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, held, one_model, post_chat, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.support.redis import RedisServer

TOKEN = "lg-a-0123456789abcdef"
HASH = digest(TOKEN)
PRICES = "prices: { mock: { prompt: 10, output: 100 } }"
ENVIRON = {"UP_KEY": "sk-upstream-credential"}


def keys(limits: str, more: str = "") -> str:
    """Return a `keys` section with one key and its limits."""
    return f"keys:\n  team: {{ hash: '{HASH}', limits: {limits}{more} }}\n"


async def call(client: httpx.AsyncClient, gateway: Live, **more: Any) -> httpx.Response:
    """Send one chat call with the key."""
    return await post_chat(client, gateway, headers=bearer(TOKEN), **more)


async def test_call_over_the_limit_gets_429_in_openai_format(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys("{ requests: 2/min, tokens: 100k/min }")) as gateway:
        first, second, third = [await call(client, gateway) for _ in range(3)]
        assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert re.fullmatch(r"1m\d(\.\d+)?s", first.headers["x-ratelimit-reset-requests"])
        assert first.headers["x-ratelimit-limit-tokens"] == "100000"
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        error = third.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
        assert "the key 'team'" in error["message"]
        assert "2 requests per min" in error["message"]
        assert TOKEN not in third.text
        assert 50 <= int(third.headers["retry-after"]) <= 68
        assert int(third.headers["retry-after-ms"]) / 1000 <= int(third.headers["retry-after"])
        assert "x-should-retry" not in third.headers
        assert gateway.count("lockgate_limit_decisions", "key", "requests", "refused", "memory") == 1
        records = await gateway.records(3)
    assert len(up.requests) == 2
    assert [record["status"] for record in records] == [200, 200, 429]


async def test_without_limits_there_are_no_rate_limit_headers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await call(client, gateway)
        assert gateway.gateway.generation.pipeline.limits is None
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("stream", [False, True])
async def test_reserved_tokens_are_settled_to_reported_usage(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up, keys("{ tokens: 10000/h }")) as gateway:
        first = await call(client, gateway, max_tokens=5000, stream=stream)
        assert 4900 < int(first.headers["x-ratelimit-remaining-tokens"]) < 5000
        usage = (await gateway.records(1))[0]
        second = await call(client, gateway, max_tokens=100)
        used = usage["prompt_tokens"] + usage["output_tokens"]
        assert 0 < used < 100
        assert 10000 - used - 100 - 200 < int(second.headers["x-ratelimit-remaining-tokens"]) < 10000 - used - 100


async def test_missing_max_tokens_reserves_the_default(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "default_output_tokens: 300\n" + keys("{ output_tokens: 1000/h }")) as gateway:
        assert (await call(client, gateway)).headers["x-ratelimit-remaining-tokens"] == "700"


async def test_call_larger_than_the_limit_must_not_be_retried(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys("{ tokens: 1000/min }")) as gateway:
        answer = await call(client, gateway, max_tokens=2000)
    assert answer.status_code == 429
    assert answer.headers["x-should-retry"] == "false"
    assert "Lower 'max_tokens'" in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "tokens"


async def test_call_that_reaches_no_upstream_is_refunded(client: httpx.AsyncClient) -> None:
    yaml = f"""
providers:
  up: {{ type: openai-compatible, base_url: "http://127.0.0.1:{free_port()}", api_key: "${{UP_KEY}}" }}
models:
  m: up/mock
{keys("{ requests: 2/h, tokens: 10000/h, concurrent: 1 }")}"""
    async with live(yaml, environ=ENVIRON) as gateway:
        for _ in range(5):
            answer = await call(client, gateway, max_tokens=9000)
            assert answer.status_code == 502
        assert answer.headers["x-ratelimit-remaining-requests"] == "1"


async def test_exhausted_budget_is_insufficient_quota(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    priced = one_model(up, keys("{ spend: 0.01 USD/day }")).replace("api_key:", f"{PRICES}, api_key:")
    async with live(priced, environ=ENVIRON) as gateway:
        assert (await call(client, gateway, max_tokens=50)).status_code == 200
        answer = await call(client, gateway, max_tokens=95)
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert "The remaining budget of 0.01 USD per day" in error["message"]
        assert answer.headers["x-should-retry"] == "false"


async def test_reserved_budget_allows_a_retry_soon(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    priced = one_model(up, keys("{ spend: 0.01 USD/day }")).replace("api_key:", f"{PRICES}, api_key:")
    async with live(priced, environ=ENVIRON) as gateway:
        release = asyncio.Event()
        up.once(held(release))
        in_flight = asyncio.create_task(call(client, gateway, max_tokens=80, stream=True))
        await eventually(lambda: len(up.requests) == 1)
        answer = await call(client, gateway, max_tokens=80)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "reserved by calls in flight" in answer.json()["error"]["message"]
        assert "x-should-retry" not in answer.headers
        assert int(answer.headers["retry-after-ms"]) < 2000
        release.set()
        assert (await in_flight).status_code == 200
        assert (await call(client, gateway, max_tokens=80)).status_code == 200


async def test_concurrency_is_freed_once_calls_end(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys("{ concurrent: 2 }")) as gateway:
        for _ in range(4):
            answers = await asyncio.gather(*(call(client, gateway) for _ in range(2)))
            assert [answer.status_code for answer in answers] == [200, 200]
        limiter: Any = gateway.gateway.generation.pipeline.limits.limiter  # type: ignore[union-attr]
        assert limiter._leases == {}
        assert limiter._open == {}


async def test_disconnect_during_a_stream_is_charged_for_received_tokens_and_frees_the_slot(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.chunks, up.delay = 1000, 0.01
    async with serving(up, keys("{ concurrent: 1, output_tokens: 10k/h }")) as gateway:
        headers, body = bearer(TOKEN), chat(stream=True, max_tokens=5000)
        async with client.stream("POST", gateway.base_url + "/chat/completions", json=body, headers=headers) as answer:
            assert answer.headers["x-ratelimit-remaining-tokens"] == "5000"
            assert (await call(client, gateway)).json()["error"]["type"] == "requests"
            async for piece in answer.aiter_bytes():
                if b"content" in piece:
                    break
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        await eventually(lambda: len(gateway.lines()) == 2)
        received = gateway.lines()[1]["output_tokens"]
        assert 0 < received < 1000
        up.chunks, up.delay = 3, 0.0
        after = await call(client, gateway, max_tokens=1000)
        assert after.headers["x-ratelimit-remaining-tokens"] == str(10_000 - received - 1000)


async def test_disconnect_before_an_answer_refunds_tokens_and_frees_the_slot(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = one_model(up, "  silent: up/silent\n" + keys("{ concurrent: 1, requests: 10/h, tokens: 10k/h }"))
    async with live(yaml, environ=ENVIRON) as gateway:
        waiting = asyncio.create_task(call(client, gateway, model="silent", max_tokens=9000))
        await up.wait_for(lambda up: len(up.requests) == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        after = await call(client, gateway, max_tokens=9000)
    assert after.status_code == 200
    assert after.headers["x-ratelimit-remaining-requests"] == "8"


async def test_models_and_users_have_their_own_limits(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = one_model(up, "  other: up/other\n" + keys("{ requests: 100/h }", ", limits_per_user: { requests: 1/h }"))
    yaml = yaml.replace("m: up/mock", "m: { targets: up/mock, limits: { requests: 3/h } }")
    async with live(yaml, environ=ENVIRON) as gateway:
        users = [(await call(client, gateway, user=user)).status_code for user in ("a", "b", "a", "b")]
        assert users == [200, 200, 429, 429]
        assert [(await call(client, gateway, user=user)).status_code for user in ("c", "d")] == [200, 429]
        refused = await call(client, gateway)
        assert "the model 'm'" in refused.json()["error"]["message"]
        assert (await call(client, gateway, model="other")).status_code == 200


async def test_provider_over_its_limit_falls_back_to_the_next_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = f"""
providers:
  small: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", limits: {{ requests: 1/h }} }}
  big: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: [small/mock, big/mock]
  alone: small/mock
"""
    async with live(yaml, environ=ENVIRON) as gateway:
        answers = [await call(client, gateway) for _ in range(3)]
        assert [answer.headers["x-gateway-target"] for answer in answers] == ["small/mock", "big/mock", "big/mock"]
        assert answers[2].status_code == 200
        refused = await call(client, gateway, model="alone")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) > 60
    assert len(up.requests) == 3


async def test_limits_are_shared_through_redis_and_follow_the_outage_mode(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    yaml = one_model(up, f"store: {own_redis.url}\nstore_deadline: 10s\n" + keys("{ requests: 3/h, concurrent: 5, outage: closed }"))
    async with live(yaml, environ=ENVIRON) as one, live(yaml, environ=ENVIRON) as another:
        statuses = [(await call(client, gateway)).status_code for gateway in (one, another, one, another)]
        assert statuses == [200, 200, 200, 429]
        own_redis.kill()
        for _ in range(2000):
            refused = await call(client, another)
            if refused.status_code == 503:
                break
            await asyncio.sleep(0.02)
        assert refused.json()["error"]["code"] == "limiter_unavailable"
        assert refused.headers["x-gateway-limits"] == "degraded"
        assert int(refused.headers["retry-after"]) >= 1
        assert another.count("lockgate_limit_decisions", "refused", "closed") >= 1
        await eventually(lambda: len(another.reports) == 1)
        assert "is unavailable" in another.reports[0]
        scrape = (await client.get(another.admin_url + "/metrics")).text
        assert "lockgate_store_up 0.0" in scrape
        assert 'lockgate_limit_decisions_total{decision="refused",kind="requests",mode="closed",owner="key"}' in scrape
        assert "lockgate_store_errors_total{kind=" in scrape


async def test_limits_of_six_owners_apply_together_and_the_binding_one_is_named(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """A rejected call is charged to no limit. A target over its limit is skipped, and the call is charged once."""
    yaml = f"""
providers:
  up:
    {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", limits: {{ requests: 4/h }},
      models: {{ first: {{ limits: {{ requests: 2/h }} }} }} }}
models:
  m: {{ targets: [up/first, up/second], limits: {{ requests: 3/h }} }}
  n: up/second
teams:
  search: {{ limits: {{ requests: 7/h }} }}
keys:
  app: {{ hash: "{HASH}", team: search, limits: {{ requests: 5/h }}, limits_per_user: {{ requests: 4/h }} }}
"""
    outcomes = []
    async with live(yaml, environ=ENVIRON) as gateway:
        for model, user in ("m", "a"), ("m", "a"), ("m", "a"), ("m", "a"), ("n", "a"), ("n", "a"), ("n", "b"), ("n", "b"):
            answer = await call(client, gateway, model=model, user=user)
            message = answer.json()["error"]["message"] if answer.status_code != 200 else answer.headers["x-gateway-target"]
            outcomes.append((answer.status_code, message.partition(". ")[0].removeprefix("Rate limit reached for ")))
    assert outcomes == [
        (200, "up/first"), (200, "up/first"), (200, "up/second"),
        (429, "the model 'm': 3 requests per h"),
        (200, "up/second"),
        (429, "this user: 4 requests per h"),
        (429, "up/second: the gateway's own limit of 4 requests per h is used up"),
        (429, "up/second: the gateway's own limit of 4 requests per h is used up"),
    ]  # fmt: skip
    assert len(up.requests) == 4


def own_limits(up: FaultUpstream, first: str, second: str) -> str:
    """Return a configuration with two targets that have limits of their own."""
    targets = f"first: {{ limits: {{ {first} }} }}, second: {{ limits: {{ {second} }} }}"
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", models: {{ {targets} }} }}
models:
  m: {{ targets: [up/first, up/second] }}
  one: up/first
"""


async def test_the_wait_is_that_for_the_first_target_whose_own_limit_admits_the_call(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(own_limits(up, "requests: 1/day", "requests: 1/h"), environ=ENVIRON) as gateway:
        statuses = [(await call(client, gateway)).status_code for _ in range(2)]
        refused = await call(client, gateway)
        alone = await call(client, gateway, model="one")
    assert (*statuses, refused.status_code, alone.status_code) == (200, 200, 429, 429)
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert 86_000 < int(alone.headers["retry-after"]) <= 86_400


async def test_no_retry_is_advised_if_a_call_alone_exceeds_the_limits_of_targets(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(own_limits(up, "tokens: 20/min", "tokens: 30/h"), environ=ENVIRON) as gateway:
        for model in ("one", "m"):
            refused = await call(client, gateway, model=model, max_tokens=100)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert "this request alone exceeds the gateway's own limit of" in refused.json()["error"]["message"]
            assert (refused.headers["x-should-retry"], refused.headers.get("retry-after")) == ("false", None)
    assert len(up.requests) == 0

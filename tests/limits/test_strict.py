"""Strict limits are exact in reported tokens whatever callers request; targets have limits of their own."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from gateway.config.load import ConfigError, parse
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.support.pictures import image_part

TOKEN = "lg-strict-0123456789abcdef"
HASH = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()
PRICES = "{ '*': { prompt: 10, output: 100 } }"
ENVIRON = {"UP_KEY": "sk-upstream-credential"}


def yaml(up: FaultUpstream, key: str, provider: str = "", top: str = "") -> str:
    """Return a configuration with one model and one key."""
    return f"""
{top}
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", prices: {PRICES}{provider} }}
models:
  m: up/mock
keys:
  app: {{ hash: "{HASH}", {key} }}
"""


async def ask(client: httpx.AsyncClient, gateway: Live, content: Any = "one two", **more: Any) -> httpx.Response:
    """Make one chat call."""
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    headers = {"authorization": f"Bearer {TOKEN}", "x-gateway-receipt": "body"}
    return await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)


@pytest.mark.parametrize("key", ["limits: { tokens: 100k/h, strict: true }", "strict: true, limits: { tokens: 100k/h }"])
async def test_a_call_without_max_tokens_gets_the_reserved_cap_as_an_adjustment(
    up: FaultUpstream, client: httpx.AsyncClient, key: str
) -> None:
    async with live(yaml(up, key, top="default_output_tokens: 300"), environ=ENVIRON) as gateway:
        answer = await ask(client, gateway)
        assert answer.status_code == 200, answer.text
        given = await ask(client, gateway, max_completion_tokens=7)
        assert given.status_code == 200, given.text
    assert up.requests[0].json["max_tokens"] == 300
    assert '"max_tokens";set_default;to=300' in answer.headers["x-gateway-adjusted"]
    assert "max_tokens" not in up.requests[1].json
    assert "300" not in given.headers.get("x-gateway-adjusted", "")


async def test_calls_without_a_strict_limit_are_unchanged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(yaml(up, "limits: { tokens: 100k/h }, strict: false"), environ=ENVIRON) as gateway:
        await ask(client, gateway)
    assert "max_tokens" not in up.requests[0].json


async def test_no_window_exceeds_the_limit_in_reported_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """Callers request longer answers than estimated; all tokens sent by the upstream are within the limit."""
    up.chunks = 10_000
    async with live(yaml(up, "limits: { tokens: 3000/h, strict: true }", top="default_output_tokens: 200"), environ=ENVIRON) as gateway:
        for _ in range(4):
            found = await asyncio.gather(*(ask(client, gateway, "word " * 40) for _ in range(6)))
            assert {one.status_code for one in found} <= {200, 429}
        assert found[-1].status_code == 429
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
    sent = sum(request.prompt_tokens + request.tokens for request in up.requests)
    assert 1500 < sent <= 3000


@pytest.mark.parametrize(("strict", "kept"), [("true", True), ("false", False)])
@pytest.mark.parametrize("how", ["no usage", "left"])
async def test_without_reported_tokens_a_strict_limit_charges_the_reserved_amount(
    up: FaultUpstream, client: httpx.AsyncClient, how: str, strict: str, kept: bool
) -> None:
    """A stream event may contain many tokens, which an early disconnect must not make free."""
    up.usage, up.chunks, up.delay = how == "left", 100, 0.01
    limits = f"limits: {{ tokens: 3000/h, strict: {strict} }}"
    async with live(yaml(up, limits), environ=ENVIRON) as gateway:
        if how == "left":
            body = {"model": "m", "messages": [{"role": "user", "content": "one two"}], "stream": True, "max_tokens": 500}
            headers = {"authorization": f"Bearer {TOKEN}"}
            async with client.stream("POST", gateway.base_url + "/chat/completions", json=body, headers=headers) as answer:
                async for piece in answer.aiter_bytes():
                    if b"w1" in piece:
                        break
            await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        else:
            assert (await ask(client, gateway, max_tokens=500)).status_code == 200
        left = int((await ask(client, gateway, max_tokens=1)).headers["x-ratelimit-remaining-tokens"])
    assert (left < 3000 - 500 - len("one two")) is kept


async def test_a_strict_budget_is_never_exceeded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks = 10_000
    async with live(yaml(up, "limits: { spend: 0.1 USD/day, strict: true }", top="default_output_tokens: 100"), environ=ENVIRON) as gateway:
        statuses = [(await ask(client, gateway)).status_code for _ in range(15)]
        assert 429 in statuses
        assert statuses.count(200) >= 5
        usage = (await client.get(gateway.admin_url + "/admin/usage")).json()
    assert usage["total"]["cost_usd"] <= 0.1


async def test_unbounded_content_is_refused_by_type(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    sound = [{"type": "text", "text": "what is this"}, {"type": "audio_url", "audio_url": {"url": "https://example.com/a.mp3"}}]
    async with live(yaml(up, "limits: { tokens: 100k/h, strict: true }"), environ=ENVIRON) as gateway:
        refused = await ask(client, gateway, sound)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].content"
    assert up.requests == []


async def test_a_photo_is_reserved_by_the_rule_for_its_pixels(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    picture = [{"type": "text", "text": "what is this"}, image_part(1024, 1024, 4_000_000)]
    async with live(yaml(up, "limits: { tokens: 20k/h, strict: true }", top="default_output_tokens: 100"), environ=ENVIRON) as gateway:
        answer = await ask(client, gateway, picture)
        assert answer.status_code == 200, answer.text
    assert len(up.requests) == 1


async def test_a_target_limit_applies_to_every_model_that_routes_to_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    config = yaml(up, "limits: { requests: 100/h }", provider=", models: { mock: { limits: { requests: 2/h } } }")
    config = config.replace("  m: up/mock\n", "  m: [up/mock, up/other]\n  alone: up/mock\n")
    async with live(config, environ=ENVIRON) as gateway:
        targets = [(await ask(client, gateway)).headers["x-gateway-target"] for _ in range(4)]
        refused = await ask(client, gateway, model="alone")
        assert targets == ["up/mock", "up/mock", "up/other", "up/other"]
        assert refused.status_code == 429
        assert gateway.count("lockgate_limit_decisions", "target", "refused") == 3
        assert gateway.count("lockgate_upstream_errors") == 0
        records = await gateway.records(5)
        assert [one["outcome"] for one in records[2]["attempts"]] == ["limit", "ok"]
        usage = (await client.get(gateway.admin_url + "/admin/usage?by=target")).json()
    assert {row["target"]: row["requests"] for row in usage["rows"]} == {"up/mock": 2, "up/other": 2}


def test_limits_of_a_target_without_a_model_are_rejected() -> None:
    text = b"""
providers:
  up: { type: vllm, base_url: "http://x/v1", models: { mok: { limits: { requests: 2/h } } } }
models:
  m: up/mock
"""
    with pytest.raises(ConfigError, match=r"providers\.up\.models\.mok: no model leads to up/mok, did you mean 'mock'"):
        parse(text, "gateway.yaml", environ={})

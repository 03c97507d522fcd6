"""Copies of calls: what the mirror gets, and that its callers never notice, whatever it does."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import HANG, RST, FaultUpstream, closed_port, play, status
from tests.flows.conftest import chat, events
from tests.flows.live import Live, eventually, live


def mirrored(up: FaultUpstream, mirror: str, rest: str = "", copies: str | None = None) -> str:
    """The model `m` at up/main with a mirror; the provider `other` has its own credential, and prices for `shadow`."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other:
    type: openai-compatible
    base_url: "{copies or up.base_url}"
    api_key: "${{OTHER_KEY}}"
    prices: {{ shadow: {{ prompt: 1, output: 2 }} }}
models:
  m: {{ targets: up/main, mirror: {mirror} }}
{rest}"""


KEYS = {"UP_KEY": "sk-of-the-main-target", "OTHER_KEY": "sk-of-the-mirror"}


async def ask(client: httpx.AsyncClient, gateway: Live, **more: Any) -> httpx.Response:
    """One call."""
    return await client.post(gateway.base_url + "/chat/completions", json=chat(**more))


def copies(up: FaultUpstream) -> list[Any]:
    """The requests that came for the mirror."""
    return [request for request in up.requests if request.model not in ("main", "m")]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_mirror_gets_the_same_request_with_its_own_credential(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with live(mirrored(up, "other/shadow"), environ=KEYS) as gateway:
        answer = await ask(client, gateway, stream=stream, temperature=0.5, seed=7)
        await eventually(lambda: gateway.count("lockgate_mirrors", "other/shadow", "ok") == 1)
        records = await gateway.records(2)
        assert gateway.count("lockgate_requests") == 1
        assert gateway.count("lockgate_mirror_tokens", "other/shadow", "output") == 5
        prompt = gateway.count("lockgate_mirror_tokens", "other/shadow", "prompt")
        assert prompt > 0
        assert gateway.count("lockgate_mirror_cost_usd", "other/shadow") == prompt * 1000 + 5 * 2000  # nano-dollars
        assert gateway.count("lockgate_tokens", "other/shadow") == 0
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/main"
    assert answer.headers["x-gateway-attempts"] == "1"
    assert "shadow" not in answer.text
    main, shadow = sorted(up.requests, key=lambda request: str(request.model))
    assert {**main.json, "model": "shadow"} == shadow.json
    assert dict(main.headers)["authorization"] == "Bearer sk-of-the-main-target"
    assert dict(shadow.headers)["authorization"] == "Bearer sk-of-the-mirror"
    copy = next(record for record in records if "mirror_of" in record)
    call = next(record for record in records if "mirror_of" not in record)
    assert (copy["mirror_of"], copy["target"], copy["key"]) == (call["id"], "other/shadow", None)


async def test_a_mirror_that_never_answers_delays_nobody_and_is_given_up(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: request.model == "shadow", play(HANG))
    async with live(mirrored(up, "{ target: other/shadow, timeout: 700ms, max_concurrent: 2 }"), environ=KEYS) as gateway:
        began = time.monotonic()
        for _ in range(5):
            assert (await ask(client, gateway)).status_code == 200
        assert gateway.count("lockgate_mirrors", "skipped") == 3 or time.monotonic() - began > 0.7
        await eventually(lambda: gateway.count("lockgate_mirrors", "timeout") == 2)
        await eventually(lambda: all(request.link.closed for request in copies(up)))


@pytest.mark.parametrize("fault", ["500", "rst", "closed port", "never heard of it"])
async def test_what_goes_wrong_at_the_mirror_stays_there(up: FaultUpstream, client: httpx.AsyncClient, fault: str) -> None:
    up.on(lambda request: request.model == "shadow", {"500": status(500), "rst": play(RST)}.get(fault, status(404)))
    target = f"http://127.0.0.1:{closed_port()}/v1" if fault == "closed port" else None
    async with live(mirrored(up, "other/shadow", copies=target), environ=KEYS) as gateway:
        answer = await ask(client, gateway, stream=True)
        await eventually(lambda: gateway.count("lockgate_mirrors") == 1)
        assert gateway.count("lockgate_mirrors", "ok") == 0
        assert gateway.count("lockgate_internal_errors") == 0
    assert events(answer.text)[-1] == "[DONE]"


async def test_the_share_is_drawn(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(mirrored(up, "{ target: other/shadow, share: 30% }"), environ=KEYS) as gateway:
        for _ in range(50):
            await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_mirrors") == len(copies(up)))
    assert 2 <= len(copies(up)) <= 32  # 15 expected, standard deviation 3.2


async def test_a_mirror_may_be_a_model_of_its_own_and_is_not_mirrored_again(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "  shadows: { targets: { other/shadow: 1 }, mirror: other/echo }\n"
    async with live(mirrored(up, "shadows", rest), environ=KEYS) as gateway:
        await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_mirrors", "other/shadow", "ok") == 1)
        await gateway.records(2)
    assert [request.model for request in copies(up)] == ["shadow"]


async def test_a_copy_costs_its_caller_nothing_of_its_limits_and_a_refused_call_is_not_copied(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    yaml = mirrored(up, "other/shadow").replace("targets: up/main,", "targets: up/main, limits: { requests: 2/min },")
    async with live(yaml, environ=KEYS) as gateway:
        answers = [(await ask(client, gateway)).status_code for _ in range(4)]
        wrong = await ask(client, gateway, temperature="hot")
        await eventually(lambda: gateway.count("lockgate_mirrors", "ok") == 2)
    assert answers == [200, 200, 429, 429]
    assert wrong.status_code == 400
    assert len(copies(up)) == 2


async def test_the_mirrors_own_limits_hold(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = mirrored(up, "other/shadow").replace("    prices:", "    limits: { requests: 1/min }\n    prices:")
    async with live(yaml, environ=KEYS) as gateway:
        for _ in range(3):
            assert (await ask(client, gateway)).status_code == 200
        await eventually(lambda: gateway.count("lockgate_mirrors") == 3)
        assert gateway.count("lockgate_mirrors", "rate_limit") == 2
    assert len(copies(up)) == 1


async def test_copies_end_with_the_process(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: request.model == "shadow", play(HANG))
    async with live(mirrored(up, "other/shadow"), environ=KEYS) as gateway:
        await ask(client, gateway)
        await eventually(lambda: len(copies(up)) == 1)
        inner = gateway
    assert inner.count("lockgate_mirrors", "cancelled") == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "mirror"]


async def test_a_strict_call_is_copied_leniently(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = mirrored(up, "other/shadow").replace("    type: openai-compatible", "    type: groq")
    async with live(yaml, environ=KEYS) as gateway:
        answer = await client.post(
            gateway.base_url + "/chat/completions", json=chat(logit_bias={"5": 1}), headers={"x-gateway-strict": "true"}
        )
        await eventually(lambda: gateway.count("lockgate_mirrors", "ok") == 1)
    assert answer.status_code == 200
    assert "logit_bias" not in json.loads(copies(up)[0].body)

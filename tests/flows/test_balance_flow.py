"""Splits that balance by latency, load, price, session or prefix, and routes that require every parameter."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from gateway.http import rounds
from gateway.targets.latency import Latency
from tests.faults.upstream_server import FaultUpstream, status
from tests.flows.conftest import chat, delayed, events, held, post_chat
from tests.flows.live import Live, eventually, live


def split(up: FaultUpstream, settings: str, targets: str = "{up/a: 1, up/b: 1}", provider: str = "") -> str:
    """Return a configuration with one provider and the model `m` with a split and settings."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}"{provider} }}
models:
  m: {{ targets: {targets}, {settings} }}
"""


async def serving_model(client: httpx.AsyncClient, gateway: Live, headers: dict[str, str] | None = None, **more: Any) -> str:
    """Send one call and return the model at the upstream that served it."""
    answer = await post_chat(client, gateway, **more, headers=headers or {})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gateway-target"].removeprefix("up/")


async def test_session_balance_keeps_each_session_on_one_target_and_spreads_sessions(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(split(up, "balance: session", "{up/a: 1, up/b: 1, up/c: 1}")) as gateway:
        homes = {}
        for session in range(12):
            headers = {"x-session-id": f"s-{session}"}
            served = {await serving_model(client, gateway, headers, text=f"turn {turn}", user=f"u{turn}") for turn in range(3)}
            assert len(served) == 1
            homes[session] = served.pop()
    assert set(homes.values()) == {"a", "b", "c"}


async def test_session_falls_back_from_header_to_user_to_start_of_prompt(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    targets = "{" + ", ".join(f"up/{name}: 1" for name in "abcdefgh") + "}"
    async with live(split(up, "balance: session, session_header: x-conversation", targets)) as gateway:
        by_header = {await serving_model(client, gateway, {"x-conversation": "7"}, text=str(turn), user=str(turn)) for turn in range(4)}
        by_user = {await serving_model(client, gateway, {"x-session-id": str(turn)}, text=str(turn), user="someone") for turn in range(4)}
        prompt = [{"role": "system", "content": "You answer."}, {"role": "user", "content": "What is it?"}]
        turns = [{"role": "assistant", "content": "This."}, {"role": "user", "content": "And that?"}]
        by_prompt = {await serving_model(client, gateway, messages=[*prompt, *turns[:more]]) for more in range(3)}
        others = {await serving_model(client, gateway, messages=[prompt[0], {"role": "user", "content": str(turn)}]) for turn in range(12)}
    assert (len(by_header), len(by_user), len(by_prompt)) == (1, 1, 1)
    assert len(others) > 1


@pytest.mark.parametrize("stream", [True, False])
async def test_latency_balance_prefers_the_target_with_the_faster_first_token(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    up.on(lambda request: request.model == "slow", delayed(0.5))
    async with live(split(up, "balance: latency", "{up/slow: 1, up/quick: 1}")) as gateway:
        served = Counter([await serving_model(client, gateway, stream=stream) for _ in range(30)])
        slow, quick = (gateway.gateway.latencies[f"up/{name}"] for name in ("slow", "quick"))
        assert slow.expected(stream=stream) > quick.expected(stream=stream) > 0
        assert slow.in_flight == quick.in_flight == 0
    assert served["slow"] <= 3
    assert served["slow"] + served["quick"] == 30


async def test_least_busy_balance_avoids_a_target_with_calls_in_flight(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    release = asyncio.Event()
    up.on(lambda request: request.model == "held", held(release))
    async with live(split(up, "balance: least_busy", "{up/held: 1, up/free: 1}")) as gateway:
        calls = [asyncio.create_task(serving_model(client, gateway)) for _ in range(6)]
        try:
            held_calls = gateway.gateway.latencies.setdefault("up/held", Latency())
            free_calls = gateway.gateway.latencies.setdefault("up/free", Latency())
            await eventually(lambda: held_calls.in_flight > 0 and len(up.requests) == 6 and free_calls.in_flight == 0)
            later = [await serving_model(client, gateway) for _ in range(10)]
        finally:
            release.set()
        await asyncio.gather(*calls)
    assert set(later) == {"free"}


async def test_cost_balance_picks_the_cheapest_target_for_the_request(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    prices = ", prices: {reader: {prompt: 0.1, output: 20}, writer: {prompt: 2, output: 2}}"
    async with live(split(up, "balance: cost", "{up/reader: 1, up/writer: 1}", prices)) as gateway:
        long = {await serving_model(client, gateway, text="word " * 3000, max_tokens=1) for _ in range(5)}
        short = {await serving_model(client, gateway, text="hi", max_tokens=1000) for _ in range(5)}
    assert (long, short) == ({"reader"}, {"writer"})


async def test_prefix_balance_sends_equal_beginnings_to_one_target_and_spreads_the_others(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    targets = "{" + ", ".join(f"up/{name}: 1" for name in "abcd") + "}"
    async with live(split(up, "balance: prefix", targets)) as gateway:
        homes = {}
        for opening in range(12):
            texts = [f"{opening} " + "the same beginning " * 40 + f"turn {turn}" for turn in range(3)]
            served = {await serving_model(client, gateway, text=text) for text in texts}
            assert len(served) == 1, "the calls of an opening went to several targets"
            homes[opening] = served.pop()
    assert len(set(homes.values())) > 1


@pytest.mark.parametrize("few_calls", [1_000_000, -1], ids=["at once", "in rounds"])
async def test_prefix_balance_moves_calls_from_a_target_with_more_than_its_share_in_flight(
    up: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, few_calls: int
) -> None:
    monkeypatch.setattr(rounds, "FEW_CALLS", few_calls)
    release = asyncio.Event()
    up.on(lambda request: True, held(release))
    text = "the same beginning " * 40
    async with live(split(up, "balance: prefix")) as gateway:
        calls = [asyncio.create_task(serving_model(client, gateway, text=text)) for _ in range(16)]
        try:
            await eventually(lambda: len(up.requests) == 16)
        finally:
            release.set()
        served = Counter(await asyncio.gather(*calls))
    assert max(served.values()) <= 12  # of 16 calls, at most 1.25 times a half and two more


REQUIRING = """
providers:
  anthropic: {{ base_url: "{up}", api_key: "${{KEY}}" }}
  up: {{ type: openai-compatible, base_url: "{up}" }}
models:
  m: {{ targets: {targets}{settings} }}
"""


@pytest.mark.parametrize("targets", ["[anthropic/c, up/o]", "{anthropic/c: 1000, up/o: 0.001}", "[{anthropic/c: 1000, up/o: 0.001}, up/p]"])
@pytest.mark.parametrize("required_by", ["model", "caller"])
async def test_required_parameters_skip_a_target_that_would_drop_one(
    up: FaultUpstream, client: httpx.AsyncClient, targets: str, required_by: str
) -> None:
    settings = ", require_parameters: true" if required_by == "model" else ""
    headers = {"x-gateway-require-parameters": "true"} if required_by == "caller" else {}
    async with live(REQUIRING.format(up=up.base_url, targets=targets, settings=settings), environ={"KEY": "k" * 20}) as gateway:
        answer = await post_chat(client, gateway, logit_bias={"5": 1}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/o"
    assert "x-gateway-adjusted" not in answer.headers


async def test_required_parameters_reject_the_call_if_every_target_would_drop_one(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = REQUIRING.format(up=up.base_url, targets="{anthropic/c: 1, anthropic/d: 1}", settings=", require_parameters: true")
    async with live(yaml, environ={"KEY": "k" * 20}) as gateway:
        answer = await post_chat(client, gateway, logit_bias={"5": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logit_bias")
    assert up.requests == []


async def test_nested_model_may_require_parameters(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = REQUIRING.format(up=up.base_url, targets="[picky, up/o]", settings="")
    yaml += "  picky: { targets: anthropic/c, require_parameters: true }\n"
    async with live(yaml, environ={"KEY": "k" * 20}) as gateway:
        answer = await post_chat(client, gateway, logit_bias={"5": 1})
    assert answer.headers["x-gateway-target"] == "up/o"


async def test_without_required_parameters_the_first_target_drops_the_parameter_and_reports_it(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    yaml = REQUIRING.format(up=up.base_url, targets="[groq/c, up/o]", settings="").replace("anthropic", "groq")
    async with live(yaml, environ={"KEY": "k" * 20}) as gateway:
        answer = await post_chat(client, gateway, logit_bias={"5": 1}, stream=True)
    assert answer.headers["x-gateway-target"] == "groq/c"
    assert '"logit_bias";drop' in answer.headers["x-gateway-adjusted"]
    assert json.loads(events(answer.text)[0])["choices"]


async def test_sessions_leave_a_target_in_cooldown_and_return_afterwards(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = split(up, "balance: session", provider=", cooldown: { failures: 1, time: 500ms }")
    async with live(yaml) as gateway:
        homes = {session: await serving_model(client, gateway, {"x-session-id": session}) for session in map(str, range(12))}
        up.once(status(500), lambda request: request.model == "a")
        began = time.monotonic()
        mine = next(session for session, home in homes.items() if home == "a")
        assert await serving_model(client, gateway, {"x-session-id": mine}) == "b"
        meanwhile = {await serving_model(client, gateway, {"x-session-id": session}) for session in list(homes)[:4]}
        assert meanwhile == {"b"} or time.monotonic() - began > 0.5  # unless the cooldown is over
        await asyncio.sleep(0.6)
        assert {session: await serving_model(client, gateway, {"x-session-id": session}) for session in homes} == homes


async def test_required_parameters_prefer_a_capable_target_in_cooldown_over_an_incapable_one(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    yaml = REQUIRING.format(up=up.base_url, targets="{anthropic/c: 1, up/o: 1}", settings=", require_parameters: true")
    yaml = yaml.replace("type: openai-compatible,", "type: openai-compatible, cooldown: { failures: 1, time: 60s },")
    async with live(yaml, environ={"KEY": "k" * 20}) as gateway:
        up.once(status(500))
        body = chat(logit_bias={"5": 1})
        assert (await client.post(gateway.base_url + "/chat/completions", json=body)).status_code == 502
        answer = await client.post(gateway.base_url + "/chat/completions", json=body)
    assert answer.headers["x-gateway-target"] == "up/o"

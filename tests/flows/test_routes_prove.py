"""What balance, hedges and mirrors do over thousands of calls, with the figures."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import HANG, Exchange, FaultUpstream, play
from tests.flows.conftest import chat
from tests.flows.live import Live, eventually, live
from tests.running import Figure

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]


def models(up: FaultUpstream, one: str) -> str:
    """A configuration with the model `m`."""
    return f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels:\n  m: {one}\n'


async def drive(client: httpx.AsyncClient, gateway: Live, calls: int, at_once: int, **more: Any) -> tuple[list[float], Counter[str]]:
    """So many calls: how long each took, and where they went."""
    took: list[float] = []
    served: Counter[str] = Counter()
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            began = time.monotonic()
            headers = {"x-session-id": f"s{number % 200}"}
            answer = await client.post(gateway.base_url + "/chat/completions", json=chat(text=f"call {number}", **more), headers=headers)
            took.append(time.monotonic() - began)
            assert answer.status_code == 200, answer.text
            served[answer.headers["x-gateway-target"]] += 1

    await asyncio.gather(*[one(number) for number in range(calls)])
    return sorted(took), served


def lame(share: float, seconds: float) -> Any:
    """An upstream of which a share of the answers takes so long; the same ones in every run."""
    chance = random.Random(7)

    async def script(exchange: Exchange) -> None:
        if chance.random() < share:
            await exchange.sleep(seconds)
        await answer_as_openai(exchange)

    return script


async def test_hedging_cuts_the_tail_for_at_most_five_percent_more_calls(
    up: FaultUpstream, client: httpx.AsyncClient, figure: Figure
) -> None:
    up.on(lambda request: request.model == "first", lame(0.02, 1.5))
    slow: dict[str, int] = {}
    for name, hedge in (("alone", ""), ("hedged", ", hedge: 300ms")):
        up.requests.clear()
        async with live(models(up, f"{{ targets: [up/first, up/second]{hedge} }}")) as gateway:
            took, _ = await drive(client, gateway, 1000, 4)
        slow[name] = sum(seconds > 1.4 for seconds in took)
        figure(f"p99 {name}", took[int(len(took) * 0.99)] * 1000, "ms")
        figure(f"extra calls {name}", (len(up.requests) - 1000) / 10, "%")
        assert len(up.requests) <= 1000 * 1.05
    assert slow["alone"] >= 8
    assert slow["hedged"] <= slow["alone"] / 2  # the first calls have no credit yet


async def test_latency_balance_leaves_a_slow_target_alone(up: FaultUpstream, client: httpx.AsyncClient, figure: Figure) -> None:
    up.on(lambda request: request.model == "a", lame(1.0, 0.2))
    for kind in ("weighted", "latency"):
        async with live(models(up, f"{{ targets: {{ up/a: 1, up/b: 1, up/c: 1 }}, balance: {kind} }}")) as gateway:
            took, served = await drive(client, gateway, 500, 4, stream=True)
        figure(f"mean {kind}", sum(took) / len(took) * 1000, "ms")
        figure(f"share of the slow target {kind}", served["up/a"] / 5, "%")
    assert served["up/a"] <= 50


async def test_of_many_sessions_only_those_of_the_target_that_leaves_move(up: FaultUpstream, figure: Figure) -> None:
    homes: list[dict[str, str]] = []
    for targets in ("{ up/a: 1, up/b: 1, up/c: 1, up/d: 1 }", "{ up/a: 1, up/b: 1, up/d: 1 }"):
        async with live(models(up, f"{{ targets: {targets}, balance: session }}")) as gateway, httpx.AsyncClient(trust_env=False) as client:
            found = {}
            for session in range(300):
                headers = {"x-session-id": str(session)}
                answer = await client.post(gateway.base_url + "/chat/completions", json=chat(), headers=headers, timeout=30)
                found[str(session)] = answer.headers["x-gateway-target"]
            homes.append(found)
    before, after = homes
    moved = {session for session in before if before[session] != after[session]}
    assert moved == {session for session, home in before.items() if home == "up/c"}
    figure("sessions moved", len(moved) / 3, "%")


async def test_a_mirror_that_hangs_costs_callers_nothing(up: FaultUpstream, client: httpx.AsyncClient, figure: Figure) -> None:
    up.on(lambda request: request.model == "shadow", play(HANG))
    for name, mirror in (("alone", ""), ("mirrored", ", mirror: { target: up/shadow, timeout: 1s }")):
        async with live(models(up, f"{{ targets: up/main{mirror} }}")) as gateway:
            took, served = await drive(client, gateway, 500, 4)
            figure(f"p50 {name}", took[250] * 1000, "ms")
            assert served == {"up/main": 500}
            if mirror:
                await eventually(lambda: gateway.count("lockgate_mirrors") == 500)
                assert gateway.count("lockgate_mirrors", "ok") == 0

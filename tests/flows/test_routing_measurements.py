"""Balancing, hedging and mirroring measured over thousands of calls."""

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
from tests.flows.conftest import chat, post_chat
from tests.flows.live import Live, eventually, live
from tests.running import Figure

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]


def configuration(up: FaultUpstream, model: str) -> str:
    """Return a configuration with the model `m`."""
    return f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels:\n  m: {model}\n'


async def drive(client: httpx.AsyncClient, gateway: Live, calls: int, concurrency: int, **more: Any) -> tuple[list[float], Counter[str]]:
    """Send this many calls. Return the sorted durations and the number of calls per target."""
    durations: list[float] = []
    served: Counter[str] = Counter()
    slots = asyncio.Semaphore(concurrency)

    async def call(number: int) -> None:
        async with slots:
            began = time.monotonic()
            headers = {"x-session-id": f"s{number % 200}"}
            answer = await post_chat(client, gateway, text=f"call {number}", **more, headers=headers)
            durations.append(time.monotonic() - began)
            assert answer.status_code == 200, answer.text
            served[answer.headers["x-gateway-target"]] += 1

    await asyncio.gather(*[call(number) for number in range(calls)])
    return sorted(durations), served


def sometimes_slow(share: float, seconds: float) -> Any:
    """Return a script that delays a share of its answers, the same ones in every run."""
    random_source = random.Random(7)

    async def script(exchange: Exchange) -> None:
        if random_source.random() < share:
            await exchange.sleep(seconds)
        await answer_as_openai(exchange)

    return script


async def test_hedging_halves_slow_calls_for_at_most_five_percent_more_requests(
    up: FaultUpstream, client: httpx.AsyncClient, figure: Figure
) -> None:
    up.on(lambda request: request.model == "first", sometimes_slow(0.02, 1.5))
    slow: dict[str, int] = {}
    for name, hedge in (("single", ""), ("hedged", ", hedge: 300ms")):
        up.requests.clear()
        async with live(configuration(up, f"{{ targets: [up/first, up/second]{hedge} }}")) as gateway:
            durations, _ = await drive(client, gateway, 1000, 4)
        slow[name] = sum(seconds > 1.4 for seconds in durations)
        figure(f"p99 {name}", durations[int(len(durations) * 0.99)] * 1000, "ms")
        figure(f"extra calls {name}", (len(up.requests) - 1000) / 10, "%")
        assert len(up.requests) <= 1000 * 1.05
    assert slow["single"] >= 8
    assert slow["hedged"] <= slow["single"] / 2  # the first calls have no hedge budget yet


async def test_latency_balance_avoids_a_slow_target(up: FaultUpstream, client: httpx.AsyncClient, figure: Figure) -> None:
    up.on(lambda request: request.model == "a", sometimes_slow(1.0, 0.2))
    for kind in ("weighted", "latency"):
        async with live(configuration(up, f"{{ targets: {{ up/a: 1, up/b: 1, up/c: 1 }}, balance: {kind} }}")) as gateway:
            durations, served = await drive(client, gateway, 500, 4, stream=True)
        figure(f"mean {kind}", sum(durations) / len(durations) * 1000, "ms")
        figure(f"share of the slow target {kind}", served["up/a"] / 5, "%")
    assert served["up/a"] <= 50


async def test_removing_a_target_moves_only_its_own_sessions(up: FaultUpstream, figure: Figure) -> None:
    homes: list[dict[str, str]] = []
    for targets in ("{ up/a: 1, up/b: 1, up/c: 1, up/d: 1 }", "{ up/a: 1, up/b: 1, up/d: 1 }"):
        async with (
            live(configuration(up, f"{{ targets: {targets}, balance: session }}")) as gateway,
            httpx.AsyncClient(trust_env=False) as client,
        ):
            targets_by_session = {}
            for session in range(300):
                headers = {"x-session-id": str(session)}
                answer = await client.post(gateway.base_url + "/chat/completions", json=chat(), headers=headers, timeout=30)
                targets_by_session[str(session)] = answer.headers["x-gateway-target"]
            homes.append(targets_by_session)
    before, after = homes
    moved = {session for session in before if before[session] != after[session]}
    assert moved == {session for session, home in before.items() if home == "up/c"}
    figure("sessions moved", len(moved) / 3, "%")


async def test_hanging_mirror_does_not_affect_callers(up: FaultUpstream, client: httpx.AsyncClient, figure: Figure) -> None:
    up.on(lambda request: request.model == "shadow", play(HANG))
    for name, mirror in (("single", ""), ("mirrored", ", mirror: { target: up/shadow, timeout: 1s }")):
        async with live(configuration(up, f"{{ targets: up/main{mirror} }}")) as gateway:
            durations, served = await drive(client, gateway, 500, 4)
            figure(f"p50 {name}", durations[250] * 1000, "ms")
            assert served == {"up/main": 500}
            if mirror:
                await eventually(lambda: gateway.count("lockgate_mirrors") == 500)
                assert gateway.count("lockgate_mirrors", "ok") == 0

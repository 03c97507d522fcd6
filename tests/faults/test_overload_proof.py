"""A gateway in its own process under floods of refused calls keeps serving other calls."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.faults.behaviours import canned, completion
from tests.faults.client import CHAT_PATH, Answer, FaultClient, chat
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
KEY = "lk-the-only-key-0123456789abcdef"
MAX_CONCURRENT = 10
"""Concurrent calls of the target. Each takes 100 ms."""

Start = Callable[..., RunningGateway]


@pytest.fixture
async def working_upstream() -> AsyncIterator[FaultUpstream]:
    """Return an upstream that takes 100 ms for each call."""

    async def work(exchange: Exchange) -> None:
        await exchange.sleep(0.1)
        await canned(completion("x"))(exchange)

    async with FaultUpstream() as server:
        server.on(CHAT_PATH, work)
        yield server


async def start_gateway(gateway: Start, up: FaultUpstream, keys: str = "") -> RunningGateway:
    """Return a gateway whose only target allows ten concurrent calls and a queue of ten."""
    bounds = f"max_concurrent: {MAX_CONCURRENT}, max_queue: {MAX_CONCURRENT}, max_wait: 5s"
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", {bounds} }}'
    running: RunningGateway = await asyncio.to_thread(gateway, f"providers: {{ up: {provider} }}\nmodels: {{ m: up/mock }}\n{keys}")
    await asyncio.to_thread(running.wait_ready)
    return running


def cpu_seconds(running: RunningGateway) -> float:
    """Return the CPU time that the process has used."""
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def call_repeatedly(
    running: RunningGateway, callers: int, seconds: float, pause: float, headers: tuple[tuple[str, str], ...] = ()
) -> list[tuple[float, Answer]]:
    """Call repeatedly, with a `pause` in seconds after each refusal. Return the duration and the answer of each call."""
    answers: list[tuple[float, Answer]] = []
    end = time.monotonic() + seconds

    async def run_caller() -> None:
        async with await FaultClient.connect(running.port) as client:
            while (began := time.monotonic()) < end:
                await client.post(chat(), headers)
                answer = await client.answer(60)
                answers.append((time.monotonic() - began, answer))
                if answer.status != 200:
                    await asyncio.sleep(pause)

    await asyncio.gather(*[run_caller() for _ in range(callers)])
    return answers


def p99_ms(calls: list[tuple[float, Answer]]) -> float:
    """Return the 99th percentile of the times of successful calls."""
    times = sorted(took for took, answer in calls if answer.status == 200)
    return times[int(len(times) * 0.99)] * 1000


async def test_c33_goodput_survives_ten_times_the_load(gateway: Start, working_upstream: FaultUpstream, figure: Figure) -> None:
    running = await start_gateway(gateway, working_upstream)
    await call_repeatedly(running, MAX_CONCURRENT, 1.0, 0.0)
    before = cpu_seconds(running)
    normal = await call_repeatedly(running, MAX_CONCURRENT, 3.0, 0.0)
    middle = cpu_seconds(running)
    overload = await call_repeatedly(running, 10 * MAX_CONCURRENT, 8.0, 0.09)
    after = cpu_seconds(running)
    served = sum(answer.status == 200 for _, answer in overload)
    refused = [answer for _, answer in overload if answer.status != 200]
    goodput = served / 8 / (len(normal) / 3)
    for_served = (middle - before) / len(normal) * served
    figure("answers per second, normal load", len(normal) / 3, "")
    figure("offered load, as a multiple of normal load", len(overload) / 8 / (len(normal) / 3), "")
    figure("goodput at that load, relative to normal load", 100 * goodput, "%")
    figure("CPU of a refused call", max(0.0, after - middle - for_served) / len(refused) * 1000, "ms")
    figure("p99 of successful calls, normal load", p99_ms(normal), "ms")
    figure("p99 of successful calls, overload", p99_ms(overload), "ms")
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(503, "overloaded")}
    assert goodput > 0.5  # 0.9 is documented for an idle machine
    assert len({answer.header("retry-after-ms") for answer in refused}) > 10, (
        "callers refused at the same time must not retry at the same time"
    )


async def test_c32_a_thousand_reconnecting_callers_are_all_answered(
    gateway: Start, working_upstream: FaultUpstream, figure: Figure
) -> None:
    running = await start_gateway(gateway, working_upstream)
    await call_repeatedly(running, MAX_CONCURRENT, 1.0, 0.0)
    dropped = [await FaultClient.connect(running.port) for _ in range(1000)]
    for client in dropped:
        await client.post(chat())
    began = time.monotonic()
    for client in dropped:
        client.rst()
    answers: Counter[int] = Counter()
    waits: set[str | None] = set()

    async def reconnect() -> None:
        async with await FaultClient.connect(running.port) as client:
            for _ in range(3):
                await client.post(chat())
                answer = await client.answer(60)
                answers[answer.status] += 1
                if answer.status == 200:
                    return
                waits.add(answer.header("retry-after-ms"))
                await asyncio.sleep(int(answer.header("retry-after-ms") or 1000) / 1000)

    await asyncio.gather(*[reconnect() for _ in range(1000)])
    took = time.monotonic() - began
    figure("all reconnecting callers answered within", took, "s")
    figure("successful calls", answers[200], "")
    figure("refused calls", answers[503], "")
    figure("successful calls per second", answers[200] / took, "")
    assert set(answers) == {200, 503}
    assert len(waits) > 100
    assert working_upstream.ledger.open <= 2 * MAX_CONCURRENT
    normal = await call_repeatedly(running, MAX_CONCURRENT, 3.0, 0.0)
    figure("answers per second, afterwards", len(normal) / 3, "")
    assert {answer.status for _, answer in normal} == {200}


async def test_c28_a_flood_of_unknown_keys_does_not_fail_calls_with_a_valid_key(
    gateway: Start, working_upstream: FaultUpstream, figure: Figure
) -> None:
    keys = f'keys: {{ valid: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}" }} }}\n'
    running = await start_gateway(gateway, working_upstream, keys)
    valid_key = (("authorization", f"Bearer {KEY}"),)
    await call_repeatedly(running, MAX_CONCURRENT - 2, 1.0, 0.0, valid_key)
    normal = await call_repeatedly(running, MAX_CONCURRENT - 2, 2.0, 0.0, valid_key)
    before, began = cpu_seconds(running), time.monotonic()
    flood = asyncio.create_task(call_repeatedly(running, 20, 4.0, 0.002, (("authorization", "Bearer lk-an-unknown-key-0123456789abcd"),)))
    overload = await call_repeatedly(running, MAX_CONCURRENT - 2, 4.0, 0.0, valid_key)
    refused = await flood
    took = time.monotonic() - began
    figure("calls with unknown keys per second", len(refused) / took, "")
    figure("CPU of a call with an unknown key, at most", (cpu_seconds(running) - before) / len(refused) * 1000, "ms")
    figure("p99 of calls with a valid key, without the flood", p99_ms(normal), "ms")
    figure("p99 of calls with a valid key, during the flood (which shares the cores)", p99_ms(overload), "ms")
    assert {(answer.status, answer.error["code"]) for _, answer in refused} == {(401, "invalid_api_key")}
    assert {answer.status for _, answer in [*normal, *overload]} == {200}
    counted = _counter(running, 'lockgate_auth_failures_total{reason="invalid_api_key"}')
    assert counted == len(refused)


def _counter(running: RunningGateway, series: str) -> Any:
    """Return a scraped counter."""
    lines = urlopen(running.admin_url + "/metrics", timeout=10).read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

"""C28, C32 and C33: floods of refused calls against a gateway in a process of its own, and what is left for those it serves."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.faults.behaviours import canned
from tests.faults.client import Answer, FaultClient, chat
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
PATH = "/v1/chat/completions"
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}).encode()
KEY = "lk-the-only-key-there-is-0123456789"
MOST = 10
"""Calls at once that the upstream is allowed; each takes it 100 ms."""

Start = Callable[..., RunningGateway]


@pytest.fixture
async def busy() -> AsyncIterator[FaultUpstream]:
    """An upstream that does 100 calls a second, and remembers how many were there at once."""

    async def works(exchange: Exchange) -> None:
        await exchange.sleep(0.1)
        await canned(ANSWER)(exchange)

    async with FaultUpstream() as server:
        server.on(PATH, works)
        yield server


async def gateway_for(gateway: Start, up: FaultUpstream, rest: str = "") -> RunningGateway:
    """A gateway whose only target takes ten calls at once and lets ten wait."""
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", max_concurrent: {MOST}, max_queue: {MOST}, max_wait: 5s }}'
    running: RunningGateway = await asyncio.to_thread(gateway, f"providers: {{ up: {provider} }}\nmodels: {{ m: up/mock }}\n{rest}")
    await asyncio.to_thread(running.wait_ready)
    return running


def port(running: RunningGateway) -> int:
    """The callers' port."""
    return int(running.url.rsplit(":", 1)[1])


def cpu(running: RunningGateway) -> float:
    """Seconds that the process has used so far."""
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def press(
    running: RunningGateway, callers: int, seconds: float, pause: float, headers: tuple[tuple[str, str], ...] = ()
) -> list[tuple[float, Answer]]:
    """Callers who ask again as soon as they are answered, and `pause` seconds after they were refused: how long each call took."""
    found: list[tuple[float, Answer]] = []
    end = time.monotonic() + seconds

    async def one() -> None:
        async with await FaultClient.connect(port(running)) as client:
            while (began := time.monotonic()) < end:
                await client.post(chat(), headers)
                answer = await client.answer(60)
                found.append((time.monotonic() - began, answer))
                if answer.status != 200:
                    await asyncio.sleep(pause)

    await asyncio.gather(*[one() for _ in range(callers)])
    return found


def p99(found: list[tuple[float, Answer]]) -> float:
    """In milliseconds, of those that were served."""
    times = sorted(took for took, answer in found if answer.status == 200)
    return times[int(len(times) * 0.99)] * 1000


async def test_c33_goodput_survives_ten_times_the_load(gateway: Start, busy: FaultUpstream, figure: Figure) -> None:
    running = await gateway_for(gateway, busy)
    await press(running, MOST, 1.0, 0.0)
    before = cpu(running)
    alone = await press(running, MOST, 3.0, 0.0)
    middle = cpu(running)
    crowd = await press(running, 10 * MOST, 8.0, 0.09)
    after = cpu(running)
    served = sum(answer.status == 200 for _, answer in crowd)
    refused = [answer for _, answer in crowd if answer.status != 200]
    goodput = served / 8 / (len(alone) / 3)
    for_served = (middle - before) / len(alone) * served
    figure("answers each second, alone", len(alone) / 3, "")
    figure("offered, as a multiple of them", len(crowd) / 8 / (len(alone) / 3), "")
    figure("goodput at that load, of that alone", 100 * goodput, "%")
    figure("CPU of a refused call", max(0.0, after - middle - for_served) / len(refused) * 1000, "ms")
    figure("p99 of those served, alone and in the crowd", p99(alone), "ms")
    figure("... in the crowd", p99(crowd), "ms")
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(503, "overloaded")}
    assert goodput > 0.5  # promised are 0.9, of a machine that has nothing else to do
    assert len({answer.header("retry-after-ms") for answer in refused}) > 10, "who is turned away together must not come back together"


async def test_c32_a_thousand_reconnecting_callers_are_all_answered(gateway: Start, busy: FaultUpstream, figure: Figure) -> None:
    running = await gateway_for(gateway, busy)
    await press(running, MOST, 1.0, 0.0)
    dropped = [await FaultClient.connect(port(running)) for _ in range(1000)]
    for client in dropped:
        await client.post(chat())
    began = time.monotonic()
    for client in dropped:
        client.rst()
    answers: Counter[int] = Counter()
    waits: set[str | None] = set()

    async def come_back() -> None:
        async with await FaultClient.connect(port(running)) as client:
            for _ in range(3):
                await client.post(chat())
                answer = await client.answer(60)
                answers[answer.status] += 1
                if answer.status == 200:
                    return
                waits.add(answer.header("retry-after-ms"))
                await asyncio.sleep(int(answer.header("retry-after-ms") or 1000) / 1000)

    await asyncio.gather(*[come_back() for _ in range(1000)])
    took = time.monotonic() - began
    figure("callers who came back were all answered within", took, "s")
    figure("of their calls, served", answers[200], "")
    figure("turned away", answers[503], "")
    figure("served each second", answers[200] / took, "")
    assert set(answers) == {200, 503}
    assert len(waits) > 100
    assert busy.ledger.open <= 2 * MOST
    alone = await press(running, MOST, 3.0, 0.0)
    figure("answers each second, after it", len(alone) / 3, "")
    assert {answer.status for _, answer in alone} == {200}


async def test_c28_a_flood_of_unknown_keys_does_not_fail_calls_with_a_valid_key(
    gateway: Start, busy: FaultUpstream, figure: Figure
) -> None:
    keys = f'keys: {{ one: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}" }} }}\n'
    running = await gateway_for(gateway, busy, keys)
    good = (("authorization", f"Bearer {KEY}"),)
    await press(running, MOST - 2, 1.0, 0.0, good)
    alone = await press(running, MOST - 2, 2.0, 0.0, good)
    before, began = cpu(running), time.monotonic()
    flood = asyncio.create_task(press(running, 20, 4.0, 0.002, (("authorization", "Bearer lk-a-key-that-nobody-knows-0123456"),)))
    crowd = await press(running, MOST - 2, 4.0, 0.0, good)
    refused = await flood
    took = time.monotonic() - began
    figure("refused keys each second", len(refused) / took, "")
    figure("CPU of a call with such a key, at most", (cpu(running) - before) / len(refused) * 1000, "ms")
    figure("p99 of a caller with a good one, alone", p99(alone), "ms")
    figure("... and in the flood (both share two cores with the flood itself)", p99(crowd), "ms")
    assert {(answer.status, answer.error["code"]) for _, answer in refused} == {(401, "invalid_api_key")}
    assert {answer.status for _, answer in [*alone, *crowd]} == {200}
    counted = _counter(running, 'lockgate_auth_failures_total{reason="invalid_api_key"}')
    assert counted == len(refused)


def _counter(running: RunningGateway, series: str) -> Any:
    """A counter as an operator scrapes it."""
    lines = urlopen(running.admin_url + "/metrics", timeout=10).read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

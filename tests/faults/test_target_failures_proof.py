"""Under load: one of three targets dies, then all of them, then one is asked for ten times what it can do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.faults.behaviours import canned, status
from tests.faults.client import FaultClient, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually
from tests.running import Figure

PATH = "/v1/chat/completions"
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}).encode()
Outcome = tuple[float, float, int]
"""When a call began, how long it took, and its status."""


@pytest.fixture
async def third() -> AsyncIterator[FaultUpstream]:
    """One more upstream."""
    async with FaultUpstream() as server:
        yield server


def sent(*ups: FaultUpstream) -> int:
    """Requests that reached any of them."""
    return sum(len(one.requests) for one in ups)


async def press(gate: Gate, callers: int, seconds: float, then: Callable[[int], Awaitable[None]] | None = None) -> list[Outcome]:
    """Callers who ask again as soon as they have an answer; `then` is what each does after one, by its status."""
    found: list[Outcome] = []
    end = time.monotonic() + seconds

    async def one() -> None:
        async with await FaultClient.connect(gate.port) as client:
            while (began := time.monotonic()) < end:
                await client.post(chat())
                answer = await client.answer()
                found.append((began, time.monotonic() - began, answer.status))
                if then is not None:
                    await then(answer.status)

    await asyncio.gather(*[one() for _ in range(callers)])
    return found


def p99(times: list[float]) -> float:
    """In milliseconds."""
    return sorted(times)[int(len(times) * 0.99)] * 1000


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("shape", ["order", "split"])
async def test_g21_a_target_that_fails_under_load_causes_no_lasting_caller_errors(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream, shape: str
) -> None:
    ups = (up, other, third)
    for one in ups:
        one.on(PATH, canned(ANSWER))
    targets: list[Any] = [f"p{at}/mock" for at in range(3)]
    model = {"targets": [dict.fromkeys(targets, 1)] if shape == "split" else targets}
    gate = await serve(*[(one, "mock") for one in ups], every={"cooldown": {"failures": 5, "time": "1s", "max": "2s"}}, model=model)
    await press(gate, 16, 2.0)
    before = sent(*ups)
    up.on(PATH, status(500))
    died = time.monotonic()
    outcomes = await press(gate, 16, 8.0)
    errors = [began - died for began, _, number in outcomes if number != 200]
    late = [at for at in errors if at > 1.0]
    extra = sent(*ups) - before - len(outcomes)
    figure("calls in 8 s with a dead target", len(outcomes), "")
    figure("caller errors in the first second", len(errors) - len(late), "")
    figure("caller errors after it", len(late), "")
    figure("upstream requests that were retries or fallbacks", 100 * extra / len(outcomes), "%")
    assert len(late) <= 0.001 * len(outcomes)
    assert extra <= 0.2 * len(outcomes)


@pytest.mark.prove
@pytest.mark.timeout(120)
async def test_g21_load_is_not_amplified_while_all_targets_fail(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream
) -> None:
    ups = (up, other, third)
    for one in ups:
        one.on(PATH, status(500))
    gate = await serve(*[(one, "mock") for one in ups], every={"cooldown": {"time": "1s", "max": "2s"}}, model={"retries": 2})
    outcomes = await press(gate, 16, 6.0)
    figure("calls in 6 s with all dead", len(outcomes), "")
    figure("upstream attempts per call", sent(*ups) / len(outcomes), "")
    figure("median time to fail", sorted(took for _, took, _ in outcomes)[len(outcomes) // 2] * 1000, "ms")
    figure("p99 of it", p99([took for _, took, _ in outcomes]), "ms")
    assert sent(*ups) <= 1.2 * len(outcomes)
    assert all(number >= 500 for _, _, number in outcomes)
    for one in ups:
        one.reset()
        one.on(PATH, canned(ANSWER))
    back = time.monotonic()
    outcomes = await press(gate, 16, 3.0)
    good = [began for began, _, number in outcomes if number == 200]
    figure("first answer after all were back", (min(good) - back) * 1000, "ms")
    assert [number for began, _, number in outcomes if number != 200 and began > min(good) + 2] == []


@pytest.mark.prove
@pytest.mark.timeout(120)
async def test_g20_a_target_keeps_its_throughput_at_ten_times_its_capacity(serve: Serve, figure: Figure, up: FaultUpstream) -> None:
    most = 0

    async def works(exchange: Any) -> None:
        nonlocal most
        most = max(most, sum(not request.finished and request.left is None for request in up.requests))
        await exchange.sleep(0.1)
        await canned(ANSWER)(exchange)

    async def patient(number: int) -> None:
        if number != 200:
            await asyncio.sleep(0.2)

    up.on(PATH, works)
    gate = await serve((up, "mock"), every={"max_concurrent": 10, "max_queue": 10, "max_wait": "5s"})
    normal = await press(gate, 10, 5.0)
    up.requests.clear()
    crowd = await press(gate, 100, 15.0, patient)
    up.requests.clear()
    after = await press(gate, 10, 5.0)
    good = [took for _, took, number in crowd if number == 200]
    figure("answers each second, alone", len(normal) / 5, "")
    figure("answers each second, at ten times the load", len(good) / 15, "")
    figure("answers each second, after it", len(after) / 5, "")
    figure("p99 of calls alone", p99([took for _, took, _ in normal]), "ms")
    figure("p99 of admitted calls in the crowd", p99(good), "ms")
    figure("turned away", len(crowd) - len(good), "calls")
    assert {number for _, _, number in crowd} == {200, 503}
    assert most <= 10
    assert {number for _, _, number in after} == {200}
    await eventually(lambda: gate.count("lockgate_shed") == len(crowd) - len(good))

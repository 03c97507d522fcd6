"""Targets under load: one of three fails, all fail, and one gets ten times the load that it can handle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.faults.behaviours import canned, completion, status
from tests.faults.client import CHAT_PATH, FaultClient, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually
from tests.running import Figure

Outcome = tuple[float, float, int]
"""Start, duration and status of a call."""


def sent(*ups: FaultUpstream) -> int:
    """Return the number of requests that reached any of these upstreams."""
    return sum(len(upstream.requests) for upstream in ups)


async def call_repeatedly(gate: Gate, callers: int, seconds: float, then: Callable[[int], Awaitable[None]] | None = None) -> list[Outcome]:
    """Call repeatedly, with `then(status)` after each answer. Return the outcomes."""
    outcomes: list[Outcome] = []
    end = time.monotonic() + seconds

    async def run_caller() -> None:
        async with await FaultClient.connect(gate.port) as client:
            while (began := time.monotonic()) < end:
                await client.post(chat())
                answer = await client.answer()
                outcomes.append((began, time.monotonic() - began, answer.status))
                if then is not None:
                    await then(answer.status)

    await asyncio.gather(*[run_caller() for _ in range(callers)])
    return outcomes


def p99_ms(times: list[float]) -> float:
    """Return the 99th percentile, in milliseconds, of times in seconds."""
    return sorted(times)[int(len(times) * 0.99)] * 1000


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("shape", ["order", "split"])
async def test_g21_a_target_that_fails_under_load_causes_no_lasting_caller_errors(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream, shape: str
) -> None:
    ups = (up, other, third)
    for upstream in ups:
        upstream.on(CHAT_PATH, canned(completion("x")))
    targets: list[Any] = [f"p{index}/mock" for index in range(3)]
    model = {"targets": [dict.fromkeys(targets, 1)] if shape == "split" else targets}
    gate = await serve(
        *[(upstream, "mock") for upstream in ups], every={"cooldown": {"failures": 5, "time": "1s", "max": "2s"}}, model=model
    )
    await call_repeatedly(gate, 16, 2.0)
    before = sent(*ups)
    up.on(CHAT_PATH, status(500))
    failed_at = time.monotonic()
    outcomes = await call_repeatedly(gate, 16, 8.0)
    errors = [began - failed_at for began, _, number in outcomes if number != 200]
    late = [seconds for seconds in errors if seconds > 1.0]
    extra = sent(*ups) - before - len(outcomes)
    figure("calls in 8 s with a failing target", len(outcomes), "")
    figure("caller errors in the first second", len(errors) - len(late), "")
    figure("later caller errors", len(late), "")
    figure("upstream requests that were retries or fallbacks", 100 * extra / len(outcomes), "%")
    assert len(late) <= 0.001 * len(outcomes)
    assert extra <= 0.2 * len(outcomes)


@pytest.mark.prove
@pytest.mark.timeout(120)
async def test_g21_load_is_not_amplified_while_all_targets_fail(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream
) -> None:
    ups = (up, other, third)
    for upstream in ups:
        upstream.on(CHAT_PATH, status(500))
    gate = await serve(*[(upstream, "mock") for upstream in ups], every={"cooldown": {"time": "1s", "max": "2s"}}, model={"retries": 2})
    outcomes = await call_repeatedly(gate, 16, 6.0)
    figure("calls in 6 s with all targets failing", len(outcomes), "")
    figure("upstream attempts per call", sent(*ups) / len(outcomes), "")
    figure("median time to fail", sorted(took for _, took, _ in outcomes)[len(outcomes) // 2] * 1000, "ms")
    figure("p99 time to fail", p99_ms([took for _, took, _ in outcomes]), "ms")
    assert sent(*ups) <= 1.2 * len(outcomes)
    assert all(number >= 500 for _, _, number in outcomes)
    for upstream in ups:
        upstream.reset()
        upstream.on(CHAT_PATH, canned(completion("x")))
    recovered_at = time.monotonic()
    outcomes = await call_repeatedly(gate, 16, 3.0)
    good = [began for began, _, number in outcomes if number == 200]
    figure("first answer after all targets had recovered", (min(good) - recovered_at) * 1000, "ms")
    assert [number for began, _, number in outcomes if number != 200 and began > min(good) + 2] == []


@pytest.mark.prove
@pytest.mark.timeout(120)
async def test_g20_a_target_keeps_its_throughput_at_ten_times_its_capacity(serve: Serve, figure: Figure, up: FaultUpstream) -> None:
    max_in_flight = 0

    async def work(exchange: Any) -> None:
        nonlocal max_in_flight
        max_in_flight = max(max_in_flight, sum(not request.finished and request.left is None for request in up.requests))
        await exchange.sleep(0.1)
        await canned(completion("x"))(exchange)

    async def wait_after_refusal(number: int) -> None:
        if number != 200:
            await asyncio.sleep(0.2)

    up.on(CHAT_PATH, work)
    gate = await serve((up, "mock"), every={"max_concurrent": 10, "max_queue": 10, "max_wait": "5s"})
    normal = await call_repeatedly(gate, 10, 5.0)
    up.requests.clear()
    overload = await call_repeatedly(gate, 100, 15.0, wait_after_refusal)
    up.requests.clear()
    after = await call_repeatedly(gate, 10, 5.0)
    good = [took for _, took, number in overload if number == 200]
    figure("answers per second, normal load", len(normal) / 5, "")
    figure("answers per second, ten times the load", len(good) / 15, "")
    figure("answers per second, afterwards", len(after) / 5, "")
    figure("p99 of calls, normal load", p99_ms([took for _, took, _ in normal]), "ms")
    figure("p99 of admitted calls, overload", p99_ms(good), "ms")
    figure("refused", len(overload) - len(good), "calls")
    assert {number for _, _, number in overload} == {200, 503}
    assert max_in_flight <= 10
    assert {number for _, _, number in after} == {200}
    await eventually(lambda: gate.count("lockgate_shed") == len(overload) - len(good))

"""While all targets fail, calls fail fast and make little more than one upstream request each."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import Any

import pytest

from gateway.attempts import failover
from gateway.call import Call
from gateway.targets.cooldown import SLOW_FAILURE_S
from tests.faults.behaviours import RST, chat_chunk, completion, play, status
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FaultUpstream, canned, closed_base_url, unreachable_base_url
from tests.faults.upstream_wire import Exchange
from tests.running import Figure

CALLS = 100


def sent_requests(gate: Gate) -> float:
    """Return the number of upstream requests that the gateway has tried to send."""
    return sum(gate.gateway.metrics.counts["lockgate_upstream_requests"].values())


@pytest.mark.parametrize("how", ["refused", "reset", "503", "hangs at connect", "hangs"])
async def test_u28_calls_fail_fast_and_are_rarely_sent_while_all_targets_fail(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, how: str
) -> None:
    fast_failures = {"connect": "150ms", "first_byte_timeout": "150ms", "cooldown": {"failures": 3}}
    for upstream in (up, other):
        upstream.on(CHAT_PATH, {"reset": play(RST), "503": status(503)}.get(how, play(30.0)))
    with unreachable_base_url() if how == "hangs at connect" else nullcontext(closed_base_url()) as base_url:
        upstreams: list[Any] = (
            [(up, "mock"), (other, "mock")] if how in ("reset", "503", "hangs") else [(base_url, "mock"), (base_url, "other")]
        )
        gate = await serve(*upstreams, every=fast_failures, model={"retries": 2})
        times = []
        for _ in range(CALLS):
            began = time.monotonic()
            assert (await gate.ask(chat())).status >= 500
            times.append(time.monotonic() - began)
        later = times[CALLS // 2 :]
        figure(f"{how}: upstream attempts for each of the first {CALLS} calls", sent_requests(gate) / CALLS, "")
        figure(f"{how}: median of the last {CALLS // 2}", sorted(later)[len(later) // 2] * 1000, "ms")
        figure(f"{how}: second slowest of them", sorted(later)[-2] * 1000, "ms")
        assert sent_requests(gate) <= 1.2 * CALLS
        records = await gate.records(CALLS)
        if how.startswith("hangs"):  # one probe a second is sent and waits; without cooldowns all calls would
            assert sum("attempts" in record for record in records[CALLS // 2 :]) <= 2 + sum(times)


async def test_u28_a_call_without_retry_budget_fails_without_a_backoff(
    serve: Serve, figure: Figure, up: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    backoffs: list[float] = []

    async def note(call: Call, seconds: float) -> None:
        backoffs.append(seconds)

    async def fail_mostly(exchange: Any) -> None:  # a success now and then prevents a cooldown
        good = len(up.requests) % 15 == 0
        await (canned(completion("back")) if good else status(500))(exchange)

    up.on(CHAT_PATH, fail_mostly)
    monkeypatch.setattr(failover, "pause", note)
    gate = await serve((up, "mock"), every={"cooldown": {"failures": 1000, "rate": "100%"}}, model={"retries": 2})
    started = time.monotonic()
    gate.gateway.shared.retry_budget._clock = lambda: started  # the budget grows with time, however slow the machine is
    for _ in range(6):
        await gate.ask(chat())  # use up the initial retry budget
    assert gate.count("lockgate_retry_budget_exhausted") > 0
    began = time.monotonic()
    failed = [(await gate.ask(chat())).status == 502 for _ in range(CALLS)].count(True)
    took = time.monotonic() - began
    assert failed > CALLS / 2
    assert (await gate.targets())["p0/mock"]["state"] == "live"
    figure(f"duration of {CALLS} calls to a failing target, most without retry budget", took * 1000, "ms")
    records = await gate.records(CALLS + 6)
    retries = sum(len(record["attempts"]) - 1 for record in records)
    assert len(backoffs) == retries < CALLS / 4


async def test_u28_a_call_makes_about_one_attempt_while_all_targets_fail(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream
) -> None:
    for upstream in (up, other):
        upstream.on(CHAT_PATH, status(500))
    gate = await serve((up, "mock"), (other, "mock"), (closed_base_url(), "mock"))
    times, answers = [], []
    for _ in range(200):
        began = time.monotonic()
        answers.append(await gate.ask(chat()))
        times.append(time.monotonic() - began)
    records = await gate.records(200)
    attempts = sum(len(record["attempts"]) for record in records)
    figure("upstream attempts per call", attempts / 200, "")
    figure("median time to fail", sorted(times)[100] * 1000, "ms")
    figure("second slowest call", sorted(times)[-2] * 1000, "ms")
    assert attempts <= 1.2 * 200
    last = answers[-1]
    assert (last.status, last.error["code"]) == (503, "model_unavailable")
    assert 1 <= int(last.header("retry-after") or 0) <= 34
    assert all(answer.status >= 500 for answer in answers)


async def test_u28_a_burst_of_calls_to_failing_targets_is_not_amplified(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream
) -> None:
    for upstream in (up, other):
        upstream.on(CHAT_PATH, status(503, "down"))
    gate = await serve((up, "mock"), (other, "mock"), model={"retries": 2})
    answers = await asyncio.gather(*[gate.ask(chat()) for _ in range(150)])
    sent = len(up.requests) + len(other.requests)
    figure("upstream attempts per call, all at once", sent / 150, "")
    assert sent <= 1.2 * 150
    assert gate.count("lockgate_retry_budget_exhausted") > 0
    assert {answer.status for answer in answers} == {503}


async def test_u28_a_single_call_makes_three_attempts(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    for upstream in (up, other):
        upstream.on(CHAT_PATH, status(500))
    gate = await serve((up, "mock"), (other, "mock"), model={"retries": 2})
    answer = await gate.ask(chat())
    assert (answer.status, answer.header("x-gateway-attempts")) == (502, "3")
    record = await gate.record(status=502)
    assert [attempt["target"] for attempt in record["attempts"]] == ["p0/mock"] * 3


async def test_u28_calls_to_a_hanging_target_are_refused_during_its_cooldown(serve: Serve, figure: Figure, up: FaultUpstream) -> None:
    gate = await serve((up, "silent"), first={"first_byte_timeout": "500ms", "cooldown": {"failures": 2}})
    for _ in range(2):
        assert (await gate.ask(chat())).status == 504
    began = time.monotonic()
    answers = await asyncio.gather(*[gate.ask(chat()) for _ in range(20)])
    assert sorted(answer.status for answer in answers) in (
        [503] * 20,
        [503] * 19 + [504],
    )  # on a slow machine, a probe may become due, one second after the last
    refused = [answer for answer in answers if answer.status == 503]
    assert all(1 <= int(answer.header("retry-after") or 0) <= 34 for answer in refused)
    assert len(up.requests) <= 3
    figure("20 callers of a hanging target are answered within", (time.monotonic() - began) * 1000, "ms")
    up.reset()
    up.on(CHAT_PATH, canned(completion("back")))
    while (answer := await gate.ask(chat())).status != 200:  # one probe a second ends the cooldown long before its 30 s
        assert time.monotonic() - began < 20
        await asyncio.sleep(0.05)
    assert answer.content == "back"
    assert (await gate.targets())["p0/silent"]["state"] == "live"


async def test_a_stream_that_breaks_late_does_not_count_as_a_slow_failure(serve: Serve, up: FaultUpstream) -> None:
    async def break_late(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(chat_chunk("one "))
        await exchange.sleep(SLOW_FAILURE_S + 0.2)
        exchange.fin()

    up.on(CHAT_PATH, canned(completion("back")))
    up.once(break_late)
    gate = await serve((up, "mock"), first={"cooldown": {"failures": 1}})
    assert (await gate.ask(chat(stream=True))).failure["code"]
    assert (await gate.targets())["p0/mock"]["state"] == "cooling"
    assert (await gate.ask(chat())).content == "back"

"""U28 and G21: when no target works, callers are told so at once, and upstreams see hardly more than one request for each call."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext
from typing import Any

import pytest

from gateway.targets.cooldown import SLOW_FAILURE_S
from tests.faults.behaviours import RST, chat_chunk, play, status
from tests.faults.client import chat
from tests.faults.conftest import Gate, Serve
from tests.faults.test_failures_before_content import black_hole
from tests.faults.test_target_failures import says, targets
from tests.faults.upstream_server import FaultUpstream, canned, closed_port
from tests.faults.upstream_wire import Exchange
from tests.running import Figure

PATH = "/v1/chat/completions"
CALLS = 100
BACK = json.dumps({"choices": [{"index": 0, "message": {"content": "back"}, "finish_reason": "stop"}]}).encode()


def sends(gate: Gate) -> float:
    """Requests for which a transport was asked, whatever became of them."""
    return sum(gate.gateway.metrics.counts["lockgate_upstream_requests"].values())


@pytest.mark.parametrize("how", ["refused", "reset", "503", "hangs at connect", "hangs"])
async def test_u28_calls_fail_fast_and_are_rarely_sent_while_all_targets_fail(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, how: str
) -> None:
    quick = {"connect": "150ms", "first_byte_timeout": "150ms", "cooldown": {"failures": 3}}
    for one in (up, other):
        one.on(PATH, {"reset": play(RST), "503": status(503)}.get(how, play(30.0)))
    with black_hole() if how == "hangs at connect" else nullcontext(f"http://127.0.0.1:{closed_port()}/v1") as dead:
        places: list[Any] = [(up, "mock"), (other, "mock")] if how in ("reset", "503", "hangs") else [(dead, "mock"), (dead, "other")]
        gate = await serve(*places, every=quick, model={"retries": 2})
        times = []
        for _ in range(CALLS):
            began = time.monotonic()
            assert (await gate.ask(chat())).status >= 500
            times.append(time.monotonic() - began)
        known = times[CALLS // 2 :]
        figure(f"{how}: upstream attempts for each of the first {CALLS} calls", sends(gate) / CALLS, "")
        figure(f"{how}: median of the last {CALLS // 2}", sorted(known)[len(known) // 2] * 1000, "ms")
        figure(f"{how}: the slowest of them but one", sorted(known)[-2] * 1000, "ms")
        assert sends(gate) <= 1.2 * CALLS
        if how.startswith("hangs"):
            assert sum(took > 0.14 for took in known) <= 2 + sum(times)  # one a second finds out; without a rest all would take so long
        await gate.records(CALLS)


async def test_u28_a_call_without_retry_budget_fails_without_a_backoff(serve: Serve, figure: Figure, up: FaultUpstream) -> None:
    async def fails_mostly(exchange: Any) -> None:  # and so is never left alone
        good = len(up.requests) % 15 == 0
        await (canned(BACK) if good else status(500))(exchange)

    up.on(PATH, fails_mostly)
    gate = await serve((up, "mock"), every={"cooldown": {"failures": 1000, "rate": "100%"}}, model={"retries": 2})
    for _ in range(6):
        await gate.ask(chat())  # which takes what is lent
    assert gate.count("lockgate_retry_budget_exhausted") > 0
    began = time.monotonic()
    failed = [(await gate.ask(chat())).status == 502 for _ in range(CALLS)].count(True)
    took, waited = time.monotonic() - began, gate.count("lockgate_retries") - 8
    assert failed > CALLS / 2
    assert (await targets(gate))["p0/mock"]["state"] == "live"
    figure(f"{CALLS} calls to a target that fails, most of which may not be retried, took", took * 1000, "ms")
    assert took < 3.0 + 0.2 * waited  # it was over 4 when each of them waited for 50 ms on average


async def test_u28_a_call_makes_about_one_attempt_while_all_targets_fail(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream
) -> None:
    for one in (up, other):
        one.on(PATH, status(500))
    gate = await serve((up, "mock"), (other, "mock"), (f"http://127.0.0.1:{closed_port()}/v1", "mock"))
    times, answers = [], []
    for _ in range(200):
        began = time.monotonic()
        answers.append(await gate.ask(chat()))
        times.append(time.monotonic() - began)
    records = await gate.records(200)
    attempts = sum(len(record["attempts"]) for record in records)
    figure("upstream attempts per call", attempts / 200, "")
    figure("median time to fail", sorted(times)[100] * 1000, "ms")
    figure("slowest call but one", sorted(times)[-2] * 1000, "ms")
    assert attempts <= 1.2 * 200
    last = answers[-1]
    assert (last.status, last.error["code"]) == (503, "model_unavailable")
    assert 1 <= int(last.header("retry-after") or 0) <= 34
    assert all(answer.status >= 500 for answer in answers)


async def test_u28_a_burst_of_calls_to_failing_targets_is_not_amplified(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream
) -> None:
    for one in (up, other):
        one.on(PATH, status(503, "down"))
    gate = await serve((up, "mock"), (other, "mock"), model={"retries": 2})
    answers = await asyncio.gather(*[gate.ask(chat()) for _ in range(150)])
    sent = len(up.requests) + len(other.requests)
    figure("upstream attempts per call, all at once", sent / 150, "")
    assert sent <= 1.2 * 150
    assert gate.count("lockgate_retry_budget_exhausted") > 0
    assert {answer.status for answer in answers} == {503}


async def test_u28_a_single_call_makes_three_attempts(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    for one in (up, other):
        one.on(PATH, status(500))
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
    assert sorted(answer.status for answer in answers) in ([503] * 20, [503] * 19 + [504])  # a second is over where the machine is busy
    refused = [answer for answer in answers if answer.status == 503]
    assert all(1 <= int(answer.header("retry-after") or 0) <= 34 for answer in refused)
    assert len(up.requests) <= 3
    figure("20 callers of a target that hangs are told within", (time.monotonic() - began) * 1000, "ms")
    up.reset()
    up.on(PATH, canned(BACK))
    while (answer := await gate.ask(chat())).status != 200:  # once a second one of them finds out, long before the 30 s are over
        assert time.monotonic() - began < 20
        await asyncio.sleep(0.05)
    assert says(answer) == "back"
    assert (await targets(gate))["p0/silent"]["state"] == "live"


async def test_a_stream_that_breaks_late_does_not_count_as_a_slow_failure(serve: Serve, up: FaultUpstream) -> None:
    async def breaks_late(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(chat_chunk("one "))
        await exchange.sleep(SLOW_FAILURE_S + 0.2)
        exchange.fin()

    up.on(PATH, canned(BACK))
    up.once(breaks_late)
    gate = await serve((up, "mock"), first={"cooldown": {"failures": 1}})
    assert (await gate.ask(chat(stream=True))).failure["code"]
    assert (await targets(gate))["p0/mock"]["state"] == "cooling"
    assert says(await gate.ask(chat())) == "back"

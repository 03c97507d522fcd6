"""Calls that arrive together at a target in cooldown, while a shared store decides on its limits."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.attempts.failover import Failover
from gateway.call import Call
from gateway.errors import GatewayError
from gateway.limits.enforce import Limits
from gateway.store.limit import Reservation
from gateway.targets.candidate import Candidate
from gateway.targets.registry import TargetRegistry
from providers.base import Failure
from tests.support.attempts import call_with, target_named
from tests.support.scripted import (
    EVENTS,
    Recorder,
    ScriptedResponse,
    ScriptedTransport,
    candidate_over,
    completion,
    event,
    failover_over,
)  # fmt: skip

CALLS = 8


class SlowLimits:
    """Limits in a store that answers when `answer` is set, or that refuse every call."""

    def __init__(self, refusal: Failure | None = None) -> None:
        self.answer = asyncio.Event()
        self.asked = 0
        self._refusal = refusal

    async def admit_target(self, call: Call, target: object) -> Reservation | Failure | None:
        """Decide after the round trip."""
        self.asked += 1
        await self.answer.wait()
        return self._refusal


def failover_with(registry: TargetRegistry, limits: SlowLimits) -> Failover:
    failover = failover_over(registry)
    failover._sender._limits = cast("Limits", limits)
    return failover


async def run_together(failover: Failover, limits: SlowLimits, *candidates: Candidate) -> list[tuple[Call, Any]]:
    """Start calls that all wait for the store, let it answer, and return the calls with their errors."""
    calls = [call_with() for _ in range(CALLS)]
    tasks = [asyncio.create_task(failover.run(call, Recorder().caller(), list(candidates), list)) for call in calls]
    for _ in range(20):
        await asyncio.sleep(0)
    limits.answer.set()
    return list(zip(calls, await asyncio.gather(*tasks, return_exceptions=True), strict=True))


def rate_limited(registry: TargetRegistry) -> None:
    """Put the target into a cooldown whose end its upstream announced."""
    health = registry.health_of(target_named())
    health.record_failure(target_named(), Failure("rate_limit", "slow down", 429, retry_after=300.0))


async def test_one_of_the_calls_that_arrive_together_before_the_retry_after_is_the_probe() -> None:
    registry, limits = TargetRegistry(), SlowLimits()
    rate_limited(registry)
    up = ScriptedTransport(*(ScriptedResponse([b"{}"], [(b"retry-after", b"300")], 429) for _ in range(CALLS)))
    ended = await run_together(failover_with(registry, limits), limits, candidate_over(up, attempts=1))
    assert len(up.requests) == limits.asked == 1
    assert {error.status for _, error in ended} == {429}
    assert [call.attempts[-1].outcome for call, _ in ended if call.attempts] == ["429"]


async def test_a_hanging_target_gets_one_probe_and_the_other_calls_fall_back_to_the_next_target() -> None:
    clock = [1000.0]
    registry, limits = TargetRegistry(), SlowLimits()
    registry.clock = lambda: clock[0]
    health = registry.health_of(target_named())
    for _ in range(5):
        health.record_failure(target_named(), Failure("header_timeout", "no answer"), took=30.0)
    clock[0] += 100
    assert health.is_available
    down, up = (ScriptedTransport(*(ScriptedResponse([completion()]) for _ in range(CALLS))) for _ in range(2))
    ended = await run_together(failover_with(registry, limits), limits, candidate_over(down), candidate_over(up, "b/y"))
    assert [error for _, error in ended] == [None] * CALLS
    assert (len(down.requests), len(up.requests)) == (1, CALLS - 1)
    assert health.state == "live"


async def test_a_call_that_the_limits_refuse_lets_the_next_call_be_the_probe() -> None:
    registry, limits = TargetRegistry(), SlowLimits(Failure("rate_limit", "used up", retry_after=1.0))
    rate_limited(registry)
    up = ScriptedTransport()
    ended = await run_together(failover_with(registry, limits), limits, candidate_over(up))
    health = registry.health_of(target_named())
    assert not health.probe_in_flight
    assert health.in_flight == 0
    assert not health.must_wait  # no probe was sent
    assert all(isinstance(error, GatewayError) for _, error in ended)


class HeldResponse(ScriptedResponse):
    """A stream that pauses after its first piece until `release` is set."""

    def __init__(self) -> None:
        super().__init__([event({"content": "Hel"}), event({}, "stop"), b"data: [DONE]\n\n"], EVENTS)
        self.begun, self.release = asyncio.Event(), asyncio.Event()

    async def read(self) -> bytes:
        """Return the next piece."""
        if len(self._pieces) == 2:
            self.begun.set()
            await self.release.wait()
        return await super().read()


@pytest.mark.parametrize("failure", [Failure("header_timeout", "no answer"), Failure("rate_limit", "slow down", retry_after=60.0)])
async def test_a_target_that_fails_again_during_the_stream_of_its_probe_gets_another_probe(failure: Failure) -> None:
    clock = [1000.0]
    registry = TargetRegistry(lambda: clock[0])
    health = registry.health_of(target_named())
    for _ in range(5):
        health.record_failure(target_named(), Failure("header_timeout", "no answer"), took=30.0)
    clock[0] += 100
    response = HeldResponse()
    up = ScriptedTransport(response, ScriptedResponse([completion()]))
    probe = asyncio.create_task(failover_over(registry).run(call_with(stream=True), Recorder().caller(), [candidate_over(up)], list))
    await response.begun.wait()
    assert (health.state, health.probe_in_flight) == ("live", False)
    for _ in range(5):
        health.record_failure(target_named(), failure, took=30.0)
    clock[0] += 30
    recorder = Recorder()
    await failover_over(registry).run(call_with(), recorder.caller(), [candidate_over(up)], list)
    assert (recorder.status, health.state) == (200, "live")
    response.release.set()
    await probe
    assert (health.in_flight, health.probe_in_flight) == (0, False)

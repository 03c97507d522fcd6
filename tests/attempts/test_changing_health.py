"""Calls whose target goes into cooldown, or recovers, while they wait or are tried elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.attempts.failover import Failover
from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Call
from gateway.config.provider import ProviderConfig
from gateway.limits.enforce import Limits
from gateway.store.limit import Costs, Reservation
from gateway.targets.candidate import Candidate
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import Failure, WireRequest
from tests.flows.live import eventually
from tests.support.attempts import call_with, target_named
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, completion, failover_over

CALLS = 8
REFUSED = Failure("server_error", "down", 500)
HANGS = Failure("header_timeout", "no answer")
SLOW_DOWN = Failure("rate_limit", "slow down", 429, retry_after=60.0)


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class FakeLimits:
    """Limits in a store that decides when `answer` is set. `settled` has, for each reservation, whether its request was sent."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.waiting = 0
        self.settled: list[bool] = []

    async def admit_target(self, call: Call, target: object) -> Reservation | Failure | None:
        """Admit the call after the round trip."""
        self.waiting += 1
        await self.answer.wait()
        return Reservation(call.id, (), Costs(), (), (), 0)

    def settle_attempt(self, attempt: object, reservation: Reservation, *, is_sent: bool = True) -> None:
        """Record the settlement."""
        self.settled.append(is_sent)


class HookedTransport(ScriptedTransport):
    """A transport that first calls `on_send`."""

    on_send: Any = None

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Call `on_send`, then do what the script says."""
        if self.on_send is not None:
            self.on_send()
        return await super().send(origin, request, deadlines)


def answers(number: int = CALLS) -> ScriptedTransport:
    """Return a transport that answers calls."""
    return ScriptedTransport(*(ScriptedResponse([completion()]) for _ in range(number)))


def fail(health: TargetHealth, failure: Failure, times: int = 5) -> None:
    """Record failures of a target."""
    for _ in range(times):
        health.record_failure(target_named(health.name), failure, took=30.0 if failure is HANGS else 0.0)


def registry_at(clock: Clock) -> TargetRegistry:
    registry = TargetRegistry(clock)
    registry.configure({"a": ProviderConfig(name="a", max_concurrent=1, max_queue=100)})
    return registry


Started = list[tuple[Call, Recorder, asyncio.Task[None]]]


def start(failover: Failover, *candidates: Candidate, alternates: tuple[Candidate, ...] = ()) -> Started:
    """Start calls at the same moment."""
    started = []
    for _ in range(CALLS):
        call, recorder = call_with(), Recorder()
        task = asyncio.create_task(failover.run(call, recorder.caller(), list(candidates), lambda: list(alternates)))
        started.append((call, recorder, task))
    return started


@pytest.mark.parametrize("failure", [REFUSED, HANGS, SLOW_DOWN], ids=lambda failure: failure.kind)
@pytest.mark.parametrize("shape", ["order", "split"])
async def test_calls_in_the_queue_of_a_target_go_to_the_next_target_if_it_goes_into_cooldown(failure: Failure, shape: str) -> None:
    clock = Clock()
    registry = registry_at(clock)
    failover, down, up = failover_over(registry), answers(), answers()
    budget = failover._budget = RetryBudget(share=0.0, floor=0.0, clock=clock)
    first, second = candidate_over(down), candidate_over(up, "b/y")
    health = registry.health_of(first.backend.target)
    assert health.bulkhead is not None
    health.bulkhead.enter()
    started = start(failover, first, second) if shape == "order" else start(failover, first, alternates=(first, second))
    await eventually(lambda: health.waiting == CALLS)
    fail(health, failure)
    health.bulkhead.release()
    for call, recorder, task in started:
        await task
        assert recorder.headers[b"x-gateway-target"] == b"b/y"
        assert [each.outcome for each in call.attempts] == ["cooldown", "ok"]
    assert (down.requests, budget.take()) == ([], False)
    assert (health.in_flight, health.bulkhead.running, health.waiting, health.probe_in_flight) == (0, 0, 0, False)
    assert first.backend.latency.in_flight == 0


async def test_calls_that_wait_for_the_limits_of_a_target_go_to_the_next_target_if_it_goes_into_cooldown() -> None:
    registry, limits = TargetRegistry(Clock()), FakeLimits()
    failover, down, up = failover_over(registry), answers(), answers()
    failover._sender._limits = cast("Limits", limits)
    first, second = candidate_over(down), candidate_over(up, "b/y")
    started = start(failover, first, second)
    await eventually(lambda: limits.waiting == CALLS)
    fail(registry.health_of(first.backend.target), REFUSED)
    limits.answer.set()
    for _, recorder, task in started:
        await task
        assert recorder.headers[b"x-gateway-target"] == b"b/y"
    assert down.requests == []
    assert sorted(limits.settled) == [False] * CALLS + [True] * CALLS


async def test_calls_in_the_queue_of_the_only_target_are_sent_although_it_goes_into_cooldown() -> None:
    registry = registry_at(Clock())
    failover, up = failover_over(registry), answers()
    only = candidate_over(up)
    health = registry.health_of(only.backend.target)
    assert health.bulkhead is not None
    health.bulkhead.enter()
    started = start(failover, only)
    await eventually(lambda: health.waiting == CALLS)
    fail(health, REFUSED)
    health.bulkhead.release()
    for _, recorder, task in started:
        await task
        assert recorder.status == 200
    assert (health.in_flight, health.bulkhead.running, health.probe_in_flight) == (0, 0, False)


@pytest.mark.parametrize("failure", [REFUSED, HANGS], ids=lambda failure: failure.kind)
async def test_one_of_the_calls_that_arrive_together_after_a_cooldown_probes_the_target(failure: Failure) -> None:
    clock, limits = Clock(), FakeLimits()
    registry = TargetRegistry(clock)
    failover, probed, up = failover_over(registry), answers(), answers()
    failover._sender._limits = cast("Limits", limits)
    first, second = candidate_over(probed), candidate_over(up, "b/y")
    fail(registry.health_of(first.backend.target), failure)
    clock.now += 100
    started = start(failover, first, second)
    await eventually(lambda: limits.waiting >= 1)
    for _ in range(20):
        await asyncio.sleep(0)
    limits.answer.set()
    for _, recorder, task in started:
        await task
        assert recorder.status == 200
    assert (len(probed.requests), len(up.requests)) == (1, CALLS - 1)


async def test_a_target_that_recovers_while_a_call_is_tried_elsewhere_answers_the_call() -> None:
    clock = Clock()
    registry = TargetRegistry(clock)
    probing, limited, last = candidate_over(answers()), candidate_over(answers(), "b/y"), HookedTransport(UpstreamError("reset", "gone"))
    fail(hanging := registry.health_of(probing.backend.target), HANGS)
    fail(registry.health_of(limited.backend.target), SLOW_DOWN, 1)
    assert not hanging.is_available

    def pass_time() -> None:
        clock.now += 100
        hanging.probe_in_flight = True

    last.on_send = pass_time
    call, recorder = call_with(), Recorder()
    await failover_over(registry).run(call, recorder.caller(), [probing, limited, candidate_over(last, "c/z")], list)
    assert recorder.headers[b"x-gateway-target"] == b"b/y"
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("c/z", "reset"), ("b/y", "ok")]


async def test_after_a_429_of_the_chosen_target_another_target_of_the_split_answers_without_a_retry() -> None:
    refusal = ScriptedResponse([b"{}"], [(b"retry-after", b"1")], 429)
    first, second = candidate_over(ScriptedTransport(refusal), retries=1), candidate_over(answers(), "b/y", retries=1)
    call, recorder = call_with(), Recorder()
    await failover_over(TargetRegistry()).run(call, recorder.caller(), [first], lambda: [first, second])
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("a/x", "429"), ("b/y", "ok")]
    assert call.pauses == ()


async def test_a_target_that_is_rate_limited_during_the_wait_for_a_retry_gets_no_retry() -> None:
    registry = TargetRegistry()
    failover = failover_over(registry)
    failover._draw = lambda: 1.0
    first, second = candidate_over(ScriptedTransport(UpstreamError("connect", "refused")), retries=1), candidate_over(answers(), "b/y")
    call, recorder = call_with(), Recorder()
    run = asyncio.create_task(failover.run(call, recorder.caller(), [first, second], list))
    health = registry.health_of(first.backend.target)
    await eventually(lambda: health.failures == 1)
    fail(health, SLOW_DOWN, 1)
    await run
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("a/x", "connect"), ("b/y", "ok")]

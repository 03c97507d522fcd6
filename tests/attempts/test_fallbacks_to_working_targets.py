"""Fallbacks to a target that works are not limited by the retry budget, however many calls need one at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from gateway.attempts.retry_budget import MOST, RetryBudget
from gateway.errors import GatewayError
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import UpstreamError
from tests.attempts.test_changing_health import REFUSED, answers, fail
from tests.attempts.test_probes import HeldResponse
from tests.support.attempts import call_with, target_named
from tests.support.scripted import Recorder, ScriptedTransport, candidate_over, failover_over


async def run_together(registry: TargetRegistry, second: ScriptedTransport, calls: int) -> list[BaseException | None]:
    """Run calls whose first target fails and whose retry budget has one token. Return their errors."""
    failover = failover_over(registry)
    failover._budget = RetryBudget(share=0.0, floor=1.0, clock=lambda: 0.0)
    first = candidate_over(ScriptedTransport(*(UpstreamError("dns", "unknown") for _ in range(calls))))
    route = [first, candidate_over(second, "b/y")]
    runs = [failover.run(call_with(), Recorder().caller(), route, list) for _ in range(calls)]
    return await asyncio.gather(*runs, return_exceptions=True)


async def test_all_calls_whose_target_fails_at_the_same_moment_get_the_answer_of_a_target_that_works() -> None:
    registry = TargetRegistry()
    registry.health_of(target_named("b/y")).record_success(target_named("b/y"), 0.0, 0.1)
    assert await run_together(registry, answers(30), 30) == [None] * 30


@pytest.mark.parametrize("has_failed", [False, True])
async def test_fallbacks_to_a_target_that_has_never_answered_or_has_just_failed_are_limited(has_failed: bool) -> None:
    registry = TargetRegistry()
    if has_failed:
        registry.health_of(target_named("b/y")).record_success(target_named("b/y"), 0.0, 0.1)
        fail(registry.health_of(target_named("b/y")), REFUSED, 1)
    down = ScriptedTransport(*(UpstreamError("dns", "unknown") for _ in range(4)))
    errors = await run_together(registry, down, 4)  # fewer than the failures that start a cooldown
    assert len(down.requests) == 1
    assert all(isinstance(error, GatewayError) for error in errors)


def test_overdrawn_tokens_are_repaid_before_the_next_retry() -> None:
    now = [0.0]
    budget = RetryBudget(share=1.0, floor=1.0, clock=lambda: now[0])
    assert sum(budget.take(overdraw=True) for _ in range(1000)) == 1 + MOST
    now[0] += MOST
    assert not budget.take()
    now[0] += 1
    assert budget.take()


async def test_the_token_of_a_fallback_is_returned_when_its_stream_begins() -> None:
    failover, response = failover_over(TargetRegistry()), HeldResponse()
    budget = failover._budget = RetryBudget(share=0.0, floor=1.0, clock=lambda: 0.0)
    route = [candidate_over(ScriptedTransport(UpstreamError("dns", "unknown"))), candidate_over(ScriptedTransport(response), "b/y")]
    run = asyncio.create_task(failover.run(call_with(stream=True), Recorder().caller(), route, list))
    await response.begun.wait()
    assert (budget.take(), budget.take()) == (True, False)
    response.release.set()
    await run
    assert not budget.take()


async def test_a_target_that_the_retry_budget_does_not_allow_is_passed_over_for_one_that_works() -> None:
    registry = TargetRegistry()
    registry.health_of(target_named("c/z")).record_success(target_named("c/z"), 0.0, 0.1)
    failover, down = failover_over(registry), ScriptedTransport(UpstreamError("dns", "unknown"))
    failover._budget = RetryBudget(share=0.0, floor=0.0, clock=lambda: 0.0)
    call, recorder = call_with(), Recorder()
    route = [candidate_over(down), candidate_over(ScriptedTransport(), "b/y"), candidate_over(answers(1), "c/z")]
    await failover.run(call, recorder.caller(), route, list)
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("a/x", "dns"), ("c/z", "ok")]


async def test_a_call_whose_retry_the_budget_does_not_allow_goes_to_a_target_that_works() -> None:
    registry = TargetRegistry()
    registry.health_of(target_named("b/y")).record_success(target_named("b/y"), 0.0, 0.1)
    failover, down = failover_over(registry), ScriptedTransport(UpstreamError("connect", "refused"))
    failover._budget = RetryBudget(share=0.0, floor=0.0, clock=lambda: 0.0)
    call, recorder = call_with(), Recorder()
    await failover.run(call, recorder.caller(), [candidate_over(down, retries=1), candidate_over(answers(1), "b/y")], list)
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("a/x", "connect"), ("b/y", "ok")]
    assert call.pauses == ()

"""gateway.limits.running_charges: usage is charged once, while the call runs or at its end, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.call import Attempt, Call, PassedRequest
from gateway.config.load import parse
from gateway.errors import GatewayError
from gateway.limits.enforce import Limits
from gateway.limits.running_charges import RunningCharges
from gateway.metrics.registry import Metrics
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from providers.base import Usage
from tests.support.attempts import target_named

YAML = b"""
providers: { a: { type: vllm, base_url: "http://h/v1" } }
models: { m: a/x }
"""
TOKENS, CONCURRENT = Limit("key:k", "tokens", 1000, "h"), Limit("key:k", "concurrent", 1)


class FailingLimiter(MemoryLimiter):
    """A store that is unavailable while `fails` is set."""

    fails = False

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        if self.fails:
            return Refusal(limits[0], 1.0, unavailable=True)
        return await super().admit(limits, costs, id)


async def running(*limits: Limit) -> tuple[RunningCharges, Limits, FailingLimiter, Call, list[GatewayError]]:
    """Return the charges of an admitted call that has one attempt, and the list of errors that end it."""
    limiter = FailingLimiter()
    of_config = Limits(parse(YAML, "g.yaml", environ={}), limiter, Metrics(["m"], ["a/x"]))
    call = Call("passthrough", "/v1/realtime", model="m", route="m")
    call.passed = PassedRequest("GET", "/v1/realtime")
    await of_config.admit(call, limits, ())
    attempt = Attempt(target_named(), head_at=1.0)
    call.attempts.append(attempt)
    charges = RunningCharges(of_config, call, attempt, None)
    ended: list[GatewayError] = []
    charges.on_used_up = ended.append
    return charges, of_config, limiter, call, ended


async def used(limiter: MemoryLimiter) -> int:
    """Return the tokens that count against the limit."""
    (usage,) = await limiter.usage([TOKENS])
    return usage.used


async def report(charges: RunningCharges, call: Call, prompt: int) -> None:
    """Report usage, and let its charge run."""
    attempt = call.attempts[0]
    usage = Usage(prompt, 1)
    attempt.usage = usage if attempt.usage is None else attempt.usage.plus(usage)
    charges.update()
    for _ in range(10):
        await asyncio.sleep(0)


async def test_usage_is_charged_while_the_call_runs_and_once_in_all() -> None:
    charges, limits, limiter, call, ended = await running(TOKENS, CONCURRENT)
    reserved = await used(limiter)
    for number in range(1, 4):
        await report(charges, call, 99)
        assert await used(limiter) == 100 * number + 2 * reserved, "the charges, and what both reservations hold"
    charges.stop()
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    assert await used(limiter) == 300
    assert ended == []


async def test_usage_that_was_not_charged_is_charged_at_the_end() -> None:
    charges, limits, limiter, call, ended = await running(TOKENS)
    await report(charges, call, 99)
    limiter.fails = True
    await report(charges, call, 99)
    await report(charges, call, 99)
    assert ended == [], "a store that is unavailable does not end a running call"
    charges.stop()
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    assert await used(limiter) == 300


async def test_charges_continue_when_the_store_is_available_again() -> None:
    charges, _, limiter, call, ended = await running(TOKENS)
    limiter.fails = True
    await report(charges, call, 599)
    limiter.fails = False
    await report(charges, call, 599)
    assert await used(limiter) >= 1200
    assert [error.code for error in ended] == ["rate_limit_exceeded"]
    assert "1,000 tokens per h" in ended[0].message


async def test_call_ends_once_when_a_limit_is_used_up() -> None:
    charges, limits, limiter, call, ended = await running(TOKENS)
    for _ in range(3):
        await report(charges, call, 1499)
    assert [error.code for error in ended] == ["rate_limit_exceeded"]
    charges.stop()
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    assert await used(limiter) == 4500


@pytest.mark.parametrize("limits", [(), (CONCURRENT,)])
async def test_nothing_is_charged_without_a_limit_on_usage(limits: tuple[Limit, ...]) -> None:
    charges, _, limiter, call, ended = await running(*limits)
    limiter.fails = True
    await report(charges, call, 99)
    charges.stop()
    assert ended == []
    assert charges._task is None

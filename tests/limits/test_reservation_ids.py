"""No two reservations of a call have the same id, because a store returns the same reservation for the same id."""

from __future__ import annotations

import asyncio

from gateway.call import Attempt
from gateway.limits.enforce import Limits
from gateway.store.limit import Costs, Reservation
from tests.limits.test_enforce import limits_with
from tests.support.attempts import call_with, target_named

TEXT = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1", limits: { requests: 9/h } }
  b: { type: vllm, base_url: "http://h/v1", limits: { requests: 9/h } }
models:
  m: { targets: [a/x, b/x], limits: { requests: 9/h } }
"""


async def usage(limits: Limits, *names: str) -> list[int]:
    """Return the usage of the limits of targets."""
    return [(await limits.limiter.usage(limits.of_target(target_named(name))))[0].used for name in names]


async def test_attempts_that_wait_together_have_reservations_of_their_own() -> None:
    limits = limits_with(TEXT)
    targets = [target_named("a/x"), target_named("b/x")]
    call = call_with(attempts=[Attempt(target) for target in targets])
    first, second = await asyncio.gather(*(limits.admit_target(call, target) for target in targets))
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    assert first.id != second.id
    assert await usage(limits, "a/x", "b/x") == [1, 1]
    limits.limiter.settle(first, Costs(requests=0))
    assert await usage(limits, "a/x", "b/x") == [0, 1]


async def test_an_attempt_whose_decision_was_given_back_has_another_id() -> None:
    limits = limits_with(TEXT)
    call = call_with(attempts=[Attempt(target_named("a/x"))])
    given_back, found = [await limits.admit_target(call, target_named("a/x")) for _ in range(2)]
    assert isinstance(given_back, Reservation)
    assert isinstance(found, Reservation)
    limits.limiter.settle(given_back, Costs(requests=0))
    assert await usage(limits, "a/x") == [1]

"""gateway.limits.running_charges: usage is charged once, while the call runs or at its end, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from gateway.call import Attempt, Call, PassedRequest
from gateway.catalog.prices import TokenPrice
from gateway.catalog.token_price import MILLION
from gateway.config.load import parse
from gateway.config.redis_address import RedisAddress
from gateway.errors import GatewayError
from gateway.keys.virtual_key import VirtualKey
from gateway.limits.enforce import Limits
from gateway.limits.running_charges import RunningCharges
from gateway.metrics.registry import Metrics
from gateway.store.limit import Costs, Limit, Limiter, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from providers.base import Usage
from tests.support.attempts import target_named
from tests.support.redis_fixtures import LimiterStarter, start

__all__ = ["start"]

YAML = b"""
providers: { a: { type: vllm, base_url: "http://h/v1" } }
models: { m: a/x }
"""
TOKENS, CONCURRENT = Limit("key:k", "tokens", 1000, "h"), Limit("key:k", "concurrent", 1)


class FailingLimiter(MemoryLimiter):
    """A store that is unavailable while `fails` is set. `ids` are the ids of all calls."""

    fails = False
    refusal = Refusal(TOKENS, 1.0, unavailable=True)

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.gate = asyncio.Event()
        """Decisions wait for this event."""
        self.gate.set()

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False) -> Reservation | Refusal:
        self.ids.append(id)
        await self.gate.wait()
        if self.fails:
            return self.refusal
        return await super().admit(limits, costs, id, force=force)


async def running(*limits: Limit) -> tuple[RunningCharges, Limits, FailingLimiter, Call, list[GatewayError]]:
    """Return the charges of an admitted call that has one attempt, and the list of errors that end it."""
    limiter = FailingLimiter()
    charges, of_config, call, ended = await running_with(limiter, *limits)
    return charges, of_config, limiter, call, ended


async def running_with(limiter: Limiter, *limits: Limit) -> tuple[RunningCharges, Limits, Call, list[GatewayError]]:
    """Return the charges of a call that a store has admitted, and the list of errors that end it."""
    of_config = Limits(parse(YAML, "g.yaml", environ={}), limiter, Metrics(["m"], ["a/x"]))
    call = Call("passthrough", "/v1/realtime", model="m", route="m")
    call.passed = PassedRequest("GET", "/v1/realtime")
    await of_config.admit(call, limits, ())
    attempt = Attempt(target_named(), head_at=1.0)
    call.attempts.append(attempt)
    charges = RunningCharges(of_config, call, attempt, None)
    ended: list[GatewayError] = []
    charges.on_used_up = ended.append
    return charges, of_config, call, ended


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


async def settled(charges: RunningCharges) -> None:
    """Wait for the end of a charge."""
    if charges._task is not None:
        await charges._task


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
    assert len(set(limiter.ids)) == len(limiter.ids) == 5  # the store returns the same reservation for a repeated id


async def test_a_limit_that_other_calls_have_used_up_ends_a_call_at_its_first_report() -> None:
    charges, _, limiter, call, ended = await running(TOKENS)
    other = await limiter.admit([TOKENS], Costs(1, 900), "other")
    assert isinstance(other, Reservation)
    limiter.settle(other, Costs(1, 1500))
    await report(charges, call, 9)
    assert [error.code for error in ended] == ["rate_limit_exceeded"]


async def test_what_a_running_call_reserves_counts_as_reserved_for_other_calls_until_it_stops() -> None:
    charges, limits, limiter, call, _ = await running(TOKENS)
    await report(charges, call, 899)  # of the 100 tokens that are left, the call reserves 4

    def is_busy(tokens: int) -> bool:
        decision = limiter.decide([TOKENS], Costs(1, tokens), f"other {tokens}")
        assert isinstance(decision, Refusal)
        return limits.in_flight.judge(decision, Costs(1, tokens)).busy

    assert [is_busy(97), is_busy(100), is_busy(101)] == [True, True, False]
    charges.stop()
    assert [is_busy(99), is_busy(100), is_busy(101)] == [True, True, False]
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    assert isinstance(limiter.decide([TOKENS], Costs(1, 100), "last"), Reservation)
    assert limits.in_flight._open == {}


async def test_a_charge_that_waits_for_the_store_when_the_call_stops_is_not_made() -> None:
    charges, limits, limiter, call, ended = await running(TOKENS)
    limiter.gate.clear()
    await report(charges, call, 99)
    charges.stop()
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    limiter.gate.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert charges._task is not None
    assert charges._task.cancelled()
    assert limits.in_flight._open == {}
    assert (await used(limiter), ended) == (100, [])


async def test_usage_that_is_reported_after_the_stop_is_not_charged() -> None:
    charges, limits, limiter, call, _ = await running(TOKENS)
    reserved = await used(limiter)
    charges.stop()
    await report(charges, call, 99)
    assert await used(limiter) == reserved  # the settlement of the call charges it
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    assert (await used(limiter), limits.in_flight._open) == (100, {})


async def test_each_charge_leaves_out_the_prompt_tokens_read_from_a_cache() -> None:
    uncached = Limit("key:k", "uncached_prompt_tokens", 1000, "h")
    charges, _, limiter, call, _ = await running(uncached)
    for number in range(1, 4):
        call.attempts[0].usage = Usage(100 * number, number, cached_tokens=40 * number)
        charges.update()
        await settled(charges)
        (found,) = await limiter.usage([uncached])
        assert found.used == 60 * number + 2


@pytest.mark.parametrize("counts", [True, False])
async def test_a_key_decides_whether_a_budget_is_charged_for_a_credential_that_the_caller_brought(counts: bool) -> None:
    budget, of_provider = Limit("key:k", "spend", 1000, "day"), Limit("provider:a", "spend", 1000, "day", side="target")
    _, limits, limiter, call, _ = await running(budget)
    at_target = await limiter.admit([of_provider], Costs(spend=1), "target")
    assert isinstance(at_target, Reservation)
    call.key = VirtualKey("k", budgets_brought=counts)
    attempt = Attempt(msgspec.structs.replace(target_named(), brought=True), head_at=1.0)
    attempt.price, attempt.usage = TokenPrice(MILLION, MILLION, MILLION), Usage(99, 1)
    charges = RunningCharges(limits, call, attempt, at_target)
    charges.update()
    await settled(charges)
    found = await limiter.usage([budget, of_provider])
    assert [usage.used for usage in found] == [102 if counts else 2, 102]


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


@pytest.mark.parametrize("limit", [TOKENS, Limit("key:k", "spend", 1000, "day")], ids=str)
async def test_a_call_continues_while_other_calls_only_reserve_the_rest_of_its_limit(limit: Limit) -> None:
    charges, limits, limiter, call, ended = await running(limit)
    call.attempts[0].price = TokenPrice(MILLION, MILLION, MILLION)
    other = await limiter.admit([limit], Costs(1, 990, 0, 990), "other")
    assert isinstance(other, Reservation)
    limits.in_flight.add(other)
    for number in range(1, 4):
        await report(charges, call, 99)
        assert ended == []
        (found,) = await limiter.usage([limit])
        reserved = 2 if limit.kind == "spend" else 4
        assert found.used == 990 + 100 * number + reserved, "usage is charged while the limit is reserved"
    limits.in_flight.remove(other)
    limiter.settle(other, Costs(1, 600, 0, 600))
    await report(charges, call, 99)
    assert [error.code for error in ended] == ["insufficient_quota" if limit.kind == "spend" else "rate_limit_exceeded"]


async def test_the_reservations_of_a_call_neither_end_this_call_nor_keep_it_open() -> None:
    charges, _, _, call, ended = await running(TOKENS)
    await report(charges, call, 997)
    await report(charges, call, 0)
    assert ended == [], "999 of 1,000 tokens are used"
    await report(charges, call, 0)
    assert len(ended) == 1


async def test_a_used_up_limit_ends_a_call_even_if_another_limit_is_only_reserved() -> None:
    team = Limit("team:t", "tokens", 2000, "h")
    charges, limits, limiter, call, ended = await running(team, TOKENS)
    other = await limiter.admit([team], Costs(1, 1900), "other")
    assert isinstance(other, Reservation)
    limits.in_flight.add(other)
    await report(charges, call, 599)
    assert ended == []
    await report(charges, call, 599)
    assert "1,000 tokens per h" in ended[0].message


async def test_calls_of_another_process_that_reserve_the_rest_do_not_end_a_call(redis: RedisAddress, start: LimiterStarter) -> None:
    mine, theirs = await start(redis), await start(redis)
    other = await theirs.admit([TOKENS], Costs(1, 900), "other")
    assert isinstance(other, Reservation)
    charges, limits, call, ended = await running_with(mine, TOKENS)
    for _ in range(3):
        await report(charges, call, 99)
        await settled(charges)
    assert ended == []
    (found,) = await mine.usage([TOKENS])
    assert 1200 <= found.used <= 1204
    theirs.settle(other, Costs(1, 900))
    await theirs.usage([TOKENS])  # sends the settlement
    mine._refusals.clear()  # a refusal is repeated for up to a second
    await report(charges, call, 99)
    await settled(charges)
    assert [error.code for error in ended] == ["rate_limit_exceeded"]
    charges.stop()
    assert call.reservation is not None
    limits.settle(call, call.reservation)
    (found,) = await mine.usage([TOKENS])
    assert found.used == 1300


async def test_a_used_up_share_does_not_end_a_call_while_the_store_is_unavailable() -> None:
    charges, _, limiter, call, ended = await running(TOKENS)
    limiter.refusal = Refusal(TOKENS, 50.0, degraded=True)
    limiter.fails = True
    await report(charges, call, 1499)
    assert ended == []
    limiter.fails = False
    await report(charges, call, 0)
    assert await used(limiter) >= 1500
    assert len(ended) == 1


@pytest.mark.parametrize("limits", [(), (CONCURRENT,)])
async def test_nothing_is_charged_without_a_limit_on_usage(limits: tuple[Limit, ...]) -> None:
    charges, _, limiter, call, ended = await running(*limits)
    limiter.fails = True
    await report(charges, call, 99)
    charges.stop()
    assert ended == []
    assert charges._task is None


async def test_no_charge_has_the_id_of_an_attempt_at_a_target() -> None:
    charges, _, limiter, call, _ = await running(TOKENS)
    for prompt in (10, 20):
        await report(charges, call, prompt)
        await settled(charges)
    assert len(limiter.ids) >= 3
    assert not {f"{call.id}.{number}" for number in range(1, 5)} & set(limiter.ids)  # as `Limits.new_target_id` names them

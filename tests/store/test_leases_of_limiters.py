"""Several limiters with leases share limits exactly: nothing beyond a limit is admitted, and the store counts what was used."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.limits.in_flight import BUSY_RETRY_S, InFlight
from gateway.store import amount_leases
from gateway.store import redis as redis_module
from gateway.store.amount_leases import HOT_CALLS, MIN_CALLS
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.limit_usage import usage_at
from gateway.store.redis import RedisLimiter
from tests.flows.live import eventually
from tests.store.lease_traffic import Traffic
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import ClusterServers, run_command

REQUESTS, TOKENS = Limit("k", "requests", 100_000, "day"), Limit("k", "tokens", 100_000_000, "day")
BOTH = (REQUESTS, TOKENS)


@pytest.fixture(autouse=True)
def _calls_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls follow each other even on a busy machine."""
    monkeypatch.setattr(amount_leases, "HOT_GAP_S", 5.0)


@pytest.fixture
def long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leases last until their amounts are used."""
    monkeypatch.setattr(amount_leases, "MAX_LEASE_S", 600.0)


async def used(address: RedisAddress, limits: tuple[Limit, ...] = BOTH) -> list[int]:
    """Return the usage that Redis has."""
    return [usage.used for usage in await usage_at(address, limits)]


async def started(address: RedisAddress, start: LimiterStarter, count: int) -> list[RedisLimiter]:
    """Return limiters that know each other."""
    limiters = [await start(address) for _ in range(count)]
    await eventually(lambda: all(each.members == count for each in limiters))
    return limiters


async def open_lease(limiter: RedisLimiter, limits: tuple[Limit, ...] = BOTH) -> None:
    """Make calls until the limiter has a lease that has admitted nothing."""
    for at in range(1000):
        granted = limiter.amount_leases.granted
        found = await limiter.admit(limits, Costs(1, 10), f"warm{granted}.{at}")
        assert isinstance(found, Reservation)
        limiter.settle(found, Costs(1, 10))
        if limiter.amount_leases.granted > granted:
            return
    raise AssertionError("no lease was granted")


@pytest.mark.parametrize("seed", range(4))
async def test_after_the_end_of_calls_and_leases_the_store_has_exactly_what_was_used(
    redis: RedisAddress, start: LimiterStarter, seed: int
) -> None:
    traffic = Traffic(await started(redis, start, 3), BOTH, seed, exceeds=seed % 2 == 1, hold_s=0.3 if seed > 1 else 0.002)
    await traffic.run_calls(2000, callers=40 if seed > 1 else 3)
    await traffic.settle()
    assert traffic.leased > 100
    assert traffic.degraded == 0
    assert await used(redis) == traffic.used
    assert await run_command(redis, "HGETALL", f"{TOKENS.key}:held") == []
    assert await run_command(redis, "KEYS", "lockgate:{caller}:r:*") == []


@pytest.mark.parametrize("seed", range(3))
async def test_no_window_of_a_second_has_more_than_its_limit_even_if_much_is_lent(
    redis: RedisAddress, start: LimiterStarter, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for name, value in (("MIN_CALLS", 2), ("MAX_PART", 20), ("MAX_PART_LEFT", 2)):
        monkeypatch.setattr(amount_leases, name, value)
    limits = (Limit("k", "requests", 500, "s"), Limit("k", "tokens", 12_000, "s"))
    traffic = Traffic(await started(redis, start, 3), limits, seed, biggest=(20, 60, 100)[seed])

    async def enough() -> bool:
        return len(traffic.record) > 2000 and len(traffic.refusals) > 200

    await traffic.run(enough)
    calls, tokens = traffic.fullest(1.0)
    assert traffic.leased > 100
    assert traffic.degraded == 0
    assert calls <= 500
    assert tokens <= 12_000


@pytest.mark.parametrize("seed", range(3))
async def test_a_limit_can_be_used_up_and_is_not_exceeded(redis: RedisAddress, start: LimiterStarter, seed: int) -> None:
    limit = Limit("k", "tokens", 300_000, "h")
    traffic = Traffic(await started(redis, start, 3), (limit,), seed, biggest=100)

    async def is_full() -> bool:
        return len(traffic.refusals) > 20

    await traffic.run(is_full)
    await traffic.settle()
    assert traffic.leased > 100
    assert await used(redis, (limit,)) == traffic.used
    rest = limit.amount - traffic.used[0]
    assert 0 <= rest <= limit.amount // 100
    for limiter in traffic.limiters:
        limiter._refusals.clear()
    for size in (rest + 1, rest):
        found = await traffic.limiters[0].admit((limit,), Costs(1, size), f"rest{size}")
        assert isinstance(found, Reservation) == (size <= rest)


@pytest.mark.usefixtures("long_leases")
async def test_near_its_end_nothing_of_a_limit_is_lent(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    limit = Limit("k", "requests", 10_000, "h")
    most = 8 * MIN_CALLS
    await limiter.admit((limit,), Costs(10_000 - most - HOT_CALLS), "much")
    for at in range(most + HOT_CALLS):
        found = await limiter.admit((limit,), Costs(), f"c{at}")
        assert isinstance(found, Reservation)
        assert found.statuses[0].remaining == most + HOT_CALLS - at - 1
    assert isinstance(await limiter.admit((limit,), Costs(), "over"), Refusal)
    assert limiter.amount_leases.granted <= 1
    assert limiter.amount_leases.admitted <= MIN_CALLS
    assert await used(redis, (limit,)) == [10_000]


async def test_a_lease_refuses_no_call_that_is_decided_together_with_it(
    redis: RedisAddress, start: LimiterStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (amount_leases, redis_module):
        monkeypatch.setattr(module, "MAX_TOGETHER", 1000)
    (limiter,) = await started(redis, start, 1)
    limit = Limit("k", "requests", 1_000, "h")
    await limiter.admit((limit,), Costs(1000 - 200), "much")
    found = await asyncio.gather(*(limiter.admit((limit,), Costs(), f"c{at}") for at in range(200)))
    assert all(isinstance(each, Reservation) for each in found)
    assert [each.statuses[0].remaining for each in found] == list(range(199, -1, -1))
    assert limiter.amount_leases.granted == 0


@pytest.mark.usefixtures("long_leases")
async def test_the_remaining_amounts_fall_by_one_call_at_a_time(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    for at in range(300):
        found = await limiter.admit(BOTH, Costs(1, 7), f"c{at}")
        assert [each.remaining for each in found.statuses] == [100_000 - at - 1, 100_000_000 - 7 * (at + 1)]
        assert all(80_000 < each.reset_s <= 86_400 for each in found.statuses)
    assert limiter.amount_leases.admitted > 100


@pytest.mark.usefixtures("long_leases")
async def test_a_process_reads_exact_usage_during_a_lease(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    await open_lease(limiter)
    (before, _) = await limiter.usage(BOTH)
    await open_lease(limiter)
    (between, _) = await limiter.usage(BOTH)
    held = [await limiter.admit(BOTH, Costs(1, 9), f"held{at}") for at in range(3)]
    assert isinstance(held[0], Reservation)
    limiter.settle(held[0], Costs(1, 5))
    assert limiter.amount_leases._calls
    requests, tokens = await limiter.usage(BOTH)
    assert requests.used == between.used + 3
    assert tokens.used == 10 * between.used + 5 + 9 + 9
    assert before.used < between.used


@pytest.mark.usefixtures("long_leases")
async def test_strict_limits_concurrent_calls_budgets_and_forced_calls_use_no_lease(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    sets = [
        (REQUESTS, Limit("k", "tokens", 10**12, "h", strict=True)), (REQUESTS, Limit("k", "concurrent", 10**6)),
        (REQUESTS, Limit("k", "spend", 10**12, "day")), (Limit("k", "uncached_prompt_tokens", 10**12, "h"),),
    ]  # fmt: skip
    for index, limits in enumerate(sets):
        for at in range(3 * HOT_CALLS):
            assert isinstance(await limiter.admit(limits, Costs(1, 5, 5, 5), f"{index}.{at}"), Reservation)
    await open_lease(limiter)
    for at in range(HOT_CALLS):
        await limiter.admit(BOTH, Costs(), f"forced{at}", force=True)
    assert limiter.amount_leases.admitted == 0


@pytest.mark.usefixtures("long_leases")
async def test_a_call_that_only_a_lease_of_tokens_refuses_is_told_a_short_wait(redis: RedisAddress, start: LimiterStarter) -> None:
    holder, other = await started(redis, start, 2)
    limit = Limit("k", "tokens", 200_000, "day")
    await open_lease(holder, (limit,))
    found = await other.admit((limit,), Costs(1, 0), "look")
    lent = sum(lease.reservation.costs.tokens for lease in holder.amount_leases._leases)
    rest = found.statuses[0].remaining
    refusal = await other.admit((limit,), Costs(1, rest + 1), "more")
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after is not None
    assert lent > 0
    assert refusal.retry_after > 3000
    judged = InFlight().judge(refusal, Costs(1, rest + 1))
    assert (judged.retry_after, judged.busy) == (BUSY_RETRY_S, True)
    holder.amount_leases.end_all()
    other._refusals.clear()
    await eventually(lambda: not holder._settlements)
    assert isinstance(await other.admit((limit,), Costs(1, rest + lent), "more"), Reservation)


@pytest.mark.usefixtures("long_leases")
async def test_a_cancelled_caller_gives_back_what_a_lease_gave(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    await open_lease(limiter)
    found = await limiter.admit(BOTH, Costs(1, 10), "cancelled")
    limiter.give_back(found)
    limiter.give_back(found)
    before = limiter.amount_leases.admitted
    await limiter.usage(BOTH)
    calls, tokens = await used(redis)
    assert tokens == 10 * calls
    assert before == 1


@pytest.fixture(params=["redis", "cluster"])
def servers(request: pytest.FixtureRequest) -> RedisAddress | ClusterServers:
    """Return one server, or those of a cluster."""
    found: RedisAddress | ClusterServers = request.getfixturevalue(f"shared_{request.param}")
    return found


async def test_both_sides_have_leases_of_their_own(servers: RedisAddress | ClusterServers, start: LimiterStarter) -> None:
    if isinstance(servers, ClusterServers):
        await servers.empty()
        address = servers.address
    else:
        await run_command(servers, "FLUSHALL")
        address = servers
    target = (Limit("p", "requests", 100_000, "day", side="target"),)
    limiters = await started(address, start, 2)
    both = [Traffic(limiters, BOTH, 1), Traffic(limiters, target, 2)]
    await asyncio.gather(*(each.run_calls(500) for each in both))
    for traffic in both:
        await traffic.settle()
    assert [await used(address, BOTH), await used(address, target)] == [traffic.used for traffic in both]
    assert both[0].leased > 100
    assert {limits[0].side for limits in limiters[0].amount_leases._lines} == {"caller", "target"}


@pytest.mark.usefixtures("long_leases")
async def test_a_stopped_process_leaves_exact_usage(redis: RedisAddress, start: LimiterStarter) -> None:
    limiters = await started(redis, start, 2)
    traffic = Traffic(limiters[:1], BOTH, 5)
    await traffic.run_calls(300)
    assert traffic.leased
    await limiters[0].stop()
    await eventually(lambda: limiters[1].members == 1)
    assert await used(redis) == traffic.used

"""Leases while Redis is frozen, cut off, restarted or emptied, and of a process that is killed."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import amount_leases
from gateway.store.amount_leases import MAX_PART
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.redis import RedisLimiter
from tests.faults.toxic_proxy import ToxicProxy
from tests.flows.live import eventually
from tests.store.lease_traffic import Traffic
from tests.store.lease_worker import LIMIT, RESERVED, USED
from tests.store.test_leases_of_limiters import BOTH, long_leases, open_lease, started, used
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import run_command

__all__ = ["long_leases"]
ROOT = Path(__file__).parents[2]
DEADLINE_S = 0.25


@pytest.fixture(autouse=True)
def _calls_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls follow each other even on a busy machine."""
    monkeypatch.setattr(amount_leases, "HOT_GAP_S", 5.0)


def all_noticed(limiters: Sequence[RedisLimiter], losses: int) -> bool:
    """Return whether all limiters have noticed this number of losses."""
    return all(each.connections.errors.get("lost", 0) >= losses for each in limiters)


def after(faults: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[bool]]:
    """Return a condition that holds once the faults are over."""
    task = asyncio.ensure_future(faults())

    async def condition() -> bool:
        if task.done():
            task.result()
        return task.done()

    return condition


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_or_counted_twice_if_redis_is_emptied_under_load(
    redis: RedisAddress, start: LimiterStarter, seed: int
) -> None:
    limit = Limit("k", "tokens", 300_000, "h")
    traffic = Traffic(await started(redis, start, 3), (limit,), seed, biggest=60, hold_s=0.1)
    await traffic.run_calls(300)
    leased = traffic.leased

    async def empty() -> None:
        for times in (1, 2):
            await run_command(redis, "FLUSHALL")
            noticed = partial(all_noticed, traffic.limiters, times)
            await eventually(noticed)
            await eventually(lambda: all(each.decides for each in traffic.limiters))
            await asyncio.sleep(0.3)

    await traffic.run(after(empty))
    await traffic.settle()
    assert leased > 50
    assert traffic.leased > leased
    assert await used(redis, (limit,)) == traffic.used
    assert traffic.used[0] <= limit.amount


@pytest.mark.parametrize("keeps_data", [True, False], ids=["with its data", "without data"])
async def test_nothing_is_lost_or_counted_twice_if_redis_restarts_under_load(
    own_redis: RedisServer, start: LimiterStarter, keeps_data: bool
) -> None:
    traffic = Traffic(await started(own_redis.address, start, 2), BOTH, 7, hold_s=0.5)
    await traffic.run_calls(300)
    leased = traffic.leased
    saved = own_redis.socket.parent / "saved.rdb"

    async def restart() -> None:
        for _ in range(2):
            if keeps_data:
                await run_command(own_redis.address, "SAVE")
            own_redis.kill()
            await eventually(lambda: not any(each.connections.up for each in traffic.limiters))
            if not keeps_data:
                saved.unlink(missing_ok=True)
            await asyncio.sleep(0.2)
            own_redis.start()
            await eventually(lambda: all(each.decides for each in traffic.limiters))
            await asyncio.sleep(0.2)

    await traffic.run(after(restart), callers=6)
    await traffic.settle()
    assert leased > 50
    assert traffic.leased > leased
    assert traffic.degraded > 0
    assert await used(own_redis.address) == traffic.used


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_or_counted_twice_if_connections_are_cut(own_redis: RedisServer, start: LimiterStarter, seed: int) -> None:
    draw = random.Random(seed)
    async with ToxicProxy(own_redis.port) as proxy:
        limiters = await started(RedisAddress(port=proxy.port), start, 2)
        traffic = Traffic(limiters, BOTH, seed, hold_s=0.4, exceeds=seed == 1)
        await traffic.run_calls(200)
        proxy.jitter, proxy.slice = 0.002, 700

        async def cut() -> None:
            for _ in range(12):
                await asyncio.sleep(0.15 * draw.random())
                proxy.reset()
                await asyncio.sleep(0.05 * draw.random())
                if draw.random() < 0.5:
                    await eventually(lambda: all(each.decides for each in limiters))

        await traffic.run(after(cut), callers=6)
        await traffic.settle()
        assert traffic.leased > 50
        assert await used(own_redis.address) == traffic.used
        for limiter in limiters:
            await limiter.stop()


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_or_counted_twice_if_redis_is_frozen(own_redis: RedisServer, start: LimiterStarter, seed: int) -> None:
    limiters = [await start(own_redis.address, deadline=DEADLINE_S) for _ in range(2)]
    await eventually(lambda: all(each.members == 2 for each in limiters))
    traffic = Traffic(limiters, BOTH, seed, hold_s=0.6)
    await traffic.run_calls(200)

    async def freeze() -> None:
        for _ in range(4):
            own_redis.freeze()
            await eventually(lambda: not any(each.connections.up for each in limiters))
            await asyncio.sleep(0.1)
            own_redis.thaw()
            await eventually(lambda: all(each.decides for each in limiters))
            await asyncio.sleep(0.05)

    await traffic.run(after(freeze), callers=6)
    await traffic.settle()
    assert traffic.leased > 50
    assert await used(own_redis.address) == traffic.used


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_or_counted_twice_under_random_faults(own_redis: RedisServer, start: LimiterStarter, seed: int) -> None:
    draw = random.Random(seed)
    async with ToxicProxy(own_redis.port) as proxy:
        limiters = [await start(own_redis.address, deadline=DEADLINE_S) for _ in range(2)]
        limiters.append(await start(RedisAddress(port=proxy.port), deadline=DEADLINE_S))
        await eventually(lambda: all(each.members == 3 for each in limiters))
        traffic = Traffic(limiters, BOTH, seed, biggest=60, hold_s=0.6)
        await traffic.run_calls(200)

        async def cut() -> None:
            proxy.reset()

        async def part() -> None:
            proxy.part(True)
            await asyncio.sleep(0.5 * draw.random())
            proxy.part(False)

        async def freeze() -> None:
            own_redis.freeze()
            await asyncio.sleep(0.5 * draw.random())
            own_redis.thaw()

        async def empty() -> None:
            await run_command(own_redis.address, "FLUSHALL")
            await asyncio.sleep(1.0)

        async def all_faults() -> None:
            faults = [cut, cut, part, freeze, freeze, empty]
            draw.shuffle(faults)
            for fault in faults:
                await fault()
                await asyncio.sleep(0.3 * draw.random())
                if draw.random() < 0.6:
                    await eventually(lambda: all(each.decides for each in limiters))

        await traffic.run(after(all_faults), callers=4)
        await traffic.settle()
        await eventually(lambda: all(each.decides for each in limiters))
        await traffic.settle()
        assert traffic.leased > 50
        assert await used(own_redis.address) == traffic.used
        for limiter in limiters:
            await limiter.stop()


@pytest.mark.usefixtures("long_leases")
@pytest.mark.parametrize("is_open", [True, False], ids=["still in flight", "ended"])
async def test_a_call_counts_if_the_end_of_its_lease_did_not_reach_redis(
    own_redis: RedisServer, start: LimiterStarter, is_open: bool
) -> None:
    limiter = await start(own_redis.address, deadline=DEADLINE_S)
    await open_lease(limiter)
    call = await limiter.admit(BOTH, Costs(1, 50), "call")
    assert isinstance(call, Reservation)
    assert list(limiter.amount_leases._calls) == ["call"]
    await run_command(own_redis.address, "SAVE")
    (before, _) = await used(own_redis.address)
    own_redis.freeze()
    limiter.amount_leases.end_all()
    await eventually(lambda: not limiter.connections.up)
    if not is_open:
        limiter.settle(call, Costs(1, 30))
    own_redis.kill()
    own_redis.start()
    await eventually(lambda: limiter.decides and not limiter._settlements and not limiter._in_flight)
    calls, tokens = await used(own_redis.address)
    assert tokens == 10 * (calls - 1) + (50 if is_open else 30)
    assert before >= calls
    limiter.settle(call, Costs(1, 30))
    await eventually(lambda: not limiter._settlements)
    assert await used(own_redis.address) == [calls, 10 * (calls - 1) + 30]


@pytest.mark.usefixtures("long_leases")
async def test_a_lease_that_redis_has_lost_is_charged_again_and_settled(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    await open_lease(limiter)
    decisions = [await limiter.admit(BOTH, Costs(1, 20), f"call{at}") for at in range(3)]
    calls = [each for each in decisions if isinstance(each, Reservation)]
    assert list(limiter.amount_leases._calls) == ["call0", "call1", "call2"]
    limiter.settle(calls[0], Costs(1, 15))
    await run_command(redis, "FLUSHALL")
    await eventually(lambda: limiter.connections.errors.get("lost", 0) > 0)
    await eventually(lambda: limiter.decides and not limiter._settlements and not limiter._in_flight)
    assert limiter.amount_leases._calls == {}
    requests, tokens = await used(redis)
    assert tokens == 10 * (requests - 3) + 15 + 2 * 20
    for call in calls:
        limiter.settle(call, Costs(1, 15))
    await eventually(lambda: not limiter._settlements)
    assert await used(redis) == [requests, 10 * (requests - 3) + 3 * 15]


async def test_a_partitioned_process_and_the_others_admit_no_more_than_the_limit_and_its_part(
    own_redis: RedisServer, start: LimiterStarter
) -> None:
    limit = Limit("k", "tokens", 200_000, "h")
    async with ToxicProxy(own_redis.port) as proxy:
        limiters = [await start(own_redis.address) for _ in range(2)]
        limiters.append(await start(RedisAddress(port=proxy.port), deadline=DEADLINE_S))
        await eventually(lambda: all(each.members == 3 for each in limiters))
        traffic = Traffic(limiters, (limit,), 3, biggest=50)
        await traffic.run_calls(1500)
        assert limiters[2].amount_leases.admitted > 50
        remaining = limiters[2].outage.last_remaining(limit)
        proxy.part(True)

        async def is_full() -> bool:
            return len(traffic.refusals) > 1000

        await traffic.run(is_full)
        proxy.part(False)
        await traffic.settle()
        assert traffic.degraded > 0
        assert await used(own_redis.address, (limit,)) == traffic.used
        assert traffic.used[0] <= limit.amount + remaining // 3
        for limiter in limiters:
            await limiter.stop()


def start_and_kill_worker(path: str) -> tuple[int, int]:
    """Start a process, wait until it has a lease with calls, and kill it. Return its numbers of ended calls and of calls in flight."""
    with subprocess.Popen([sys.executable, "-m", "tests.store.lease_worker", path], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ended, in_flight = json.loads(process.stdout.readline())
        process.kill()
    return ended, in_flight


async def test_the_lease_of_a_killed_process_counts_as_used(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    ended, in_flight = await asyncio.to_thread(start_and_kill_worker, redis.path)
    await eventually(lambda: limiter._members.missing == 1)
    (found,) = await used(redis, (LIMIT,))
    used_up = ended * USED + in_flight * RESERVED
    assert in_flight > 0
    assert used_up < found <= used_up + LIMIT.amount // MAX_PART

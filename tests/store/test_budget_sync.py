"""Spend in a real Redis that is emptied, restored from a backup, failed over, or loses replies: never lost, never counted twice."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import NO_COSTS, Costs, Limit, Refusal, Reservation
from gateway.store.periods import month_number
from gateway.store.redis import RedisLimiter
from gateway.store.settled_spend import SettledSpend, SpendEntry
from tests.flows.live import eventually
from tests.store.test_redis import console
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter
from tests.support.reply_dropper import ReplyDropper

_ids = itertools.count()
MONTH = Limit("key:team", "spend", 1000, "month")


async def spend(limiter: RedisLimiter, amount: int, limit: Limit = MONTH, reserve: int | None = None) -> Reservation:
    """Make one call with this cost, reserving more if requested."""
    found = await limiter.admit([limit], Costs(spend=amount if reserve is None else reserve), f"b{next(_ids)}")
    assert isinstance(found, Reservation), found
    limiter.settle(found, Costs(spend=amount))
    return found


async def left(limiter: RedisLimiter, limit: Limit = MONTH) -> int:
    """Return the remaining amount that a decision of the store reports, or -1 if the store did not decide."""
    found = await limiter.admit([limit], Costs(), f"b{next(_ids)}")
    limiter.settle(found, NO_COSTS) if isinstance(found, Reservation) else None
    return found.statuses[0].remaining if not found.degraded else -1


async def becomes(limiter: RedisLimiter, remaining: int, within: float = 60.0) -> None:
    """Wait until exactly this amount remains."""
    end = asyncio.get_running_loop().time() + within
    while (found := await left(limiter)) != remaining:
        assert asyncio.get_running_loop().time() < end, found
        await asyncio.sleep(0.02)


async def test_three_processes_share_one_budget(redis: RedisAddress, start: LimiterStarter) -> None:
    limiters = [await start(redis) for _ in range(3)]
    for at in range(30):
        await spend(limiters[at % 3], 10, reserve=25)
    for one in limiters:
        await becomes(one, 700)


async def test_r05_spend_in_an_emptied_redis_is_restored_once(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiters = [await start(own_redis.address) for _ in range(3)]
    for one in limiters:
        await spend(one, 100)
    held = await limiters[0].admit([MONTH], Costs(spend=250), "held")
    assert isinstance(held, Reservation)
    await becomes(limiters[2], 450)
    own_redis.kill()
    await eventually(lambda: not any(one.connections.up for one in limiters))
    own_redis.start()
    await eventually(lambda: all(one.decides for one in limiters))
    for one in limiters:
        await becomes(one, 450)
    limiters[0].settle(held, Costs(spend=50))
    for one in limiters:
        await becomes(one, 650)


async def test_g05_spend_is_restored_within_a_second_of_flushall(redis: RedisAddress, start: LimiterStarter) -> None:
    limiters = [await start(redis) for _ in range(3)]
    await spend(limiters[0], 800)
    await becomes(limiters[1], 200)
    other = await console(redis)
    await other.execute("FLUSHALL")
    other.abort()
    found = await limiters[0].admit([MONTH], Costs(spend=201), f"b{next(_ids)}")
    assert isinstance(found, Refusal)  # the process that settled it applies its own spend immediately
    await becomes(limiters[1], 200)  # and publishes it with its next heartbeat
    await becomes(limiters[2], 200)


async def test_r06_spend_never_decreases_after_a_restart_from_an_old_backup(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiters = [await start(own_redis.address) for _ in range(2)]
    other = await console(own_redis.address)
    await spend(limiters[0], 100)
    old = await limiters[0].admit([MONTH], Costs(spend=50), "in-flight-when-saved")
    assert isinstance(old, Reservation)
    await becomes(limiters[1], 850)
    await other.execute("SAVE")
    limiters[0].settle(old, Costs(spend=20))
    await spend(limiters[1], 300)
    await becomes(limiters[0], 580)
    other.abort()
    own_redis.kill()
    await eventually(lambda: not any(one.connections.up for one in limiters))
    own_redis.start()
    await eventually(lambda: all(one.decides for one in limiters))
    for one in limiters:
        await becomes(one, 580)


async def test_r08_a_failover_that_loses_acknowledged_writes_loses_no_spend(
    own_redis: RedisServer, start: LimiterStarter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("replica")
    replica = RedisServer(folder)
    try:
        follower = await console(replica.address)
        await follower.execute("REPLICAOF", "127.0.0.1", str(own_redis.port))
        limiter = await start(own_redis.address)
        await spend(limiter, 100)

        async def copied() -> bool:
            return bool(await follower.execute("HGET", MONTH.key, "t") == b"100")

        for _ in range(3000):
            if await copied():
                break
            await asyncio.sleep(0.02)
        assert await copied()
        replica.freeze()
        await spend(limiter, 500)
        await becomes(limiter, 400)
        own_redis.kill()
        await eventually(lambda: not limiter.connections.up)
        replica.thaw()
        await follower.execute("REPLICAOF", "NO", "ONE")
        follower.abort()
        shutil.move(replica.socket, own_redis.socket)  # the address now points to the new master
        await eventually(lambda: limiter.decides)
        await becomes(limiter, 400)
    finally:
        replica.thaw()
        replica.kill()


async def test_r10_replies_lost_after_execution_charge_nothing_twice(own_redis: RedisServer, start: LimiterStarter, tmp_path: Path) -> None:
    async with ReplyDropper(tmp_path / "lossy.sock", str(own_redis.socket)) as way:
        limiter = await start(RedisAddress(path=way.path))
        witness = await start(own_redis.address)
        requests = Limit("key:team", "requests", 1000, "h")
        spent = calls = 0
        for at in range(40):
            way.drop = at % 4 == 0
            found = await limiter.admit([MONTH, requests], Costs(spend=20), f"lost{at}")
            if isinstance(found, Reservation):
                way.drop = at % 4 == 2  # the reply to the settlement is lost
                limiter.settle(found, Costs(spend=7))
                spent, calls = spent + 7, calls + 1
            await asyncio.sleep(0.02)
            way.drop = False
            await eventually(lambda: limiter.decides)
        assert way.dropped >= 15
        assert spent >= 200
        await becomes(witness, 1000 - spent)
        found = await witness.admit([requests], Costs(), "count")
        assert found.statuses[0].remaining == 1000 - calls - 1


async def test_reserved_amounts_of_a_dead_process_are_released_and_its_spend_is_kept(redis: RedisAddress, start: LimiterStarter) -> None:
    dead, alive = await start(redis), await start(redis)
    await spend(dead, 100)
    assert isinstance(await dead.admit([MONTH], Costs(spend=600), "never-settled"), Reservation)
    await becomes(alive, 300)
    assert dead._heartbeat_task is not None
    dead._heartbeat_task.cancel()
    dead._members.send_heartbeat = lambda leases: None  # type: ignore[method-assign, assignment]
    await becomes(alive, 900, within=20)


async def test_a_successor_publishes_the_spend_it_inherited(own_redis: RedisServer, start: LimiterStarter) -> None:
    period = month_number(_now())
    spent = SettledSpend("second-life")
    for amount in (400, 250, 400):  # older and repeated copies change nothing
        spent.merge(SpendEntry("first-life", MONTH.key, period, amount))
    limiter = RedisLimiter(own_redis.address, lambda line: None, timeout_s=20.0, settled_spend=spent)
    await limiter.start()
    witness = await start(own_redis.address)
    await becomes(witness, 600)
    await limiter.stop()


async def test_an_outage_spends_at_most_the_share_of_the_remainder(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiters = [await start(own_redis.address) for _ in range(2)]
    await eventually(lambda: all(one.members == 2 for one in limiters))
    await spend(limiters[0], 600)
    await becomes(limiters[1], 400)
    await becomes(limiters[0], 400)
    own_redis.kill()
    await eventually(lambda: not any(one.connections.up for one in limiters))
    for one in limiters:
        for _ in range(4):
            await spend(one, 50)
        found = await one.admit([MONTH], Costs(spend=50), f"b{next(_ids)}")
        assert isinstance(found, Refusal)
        assert found.unavailable
    own_redis.start()
    await eventually(lambda: all(one.decides for one in limiters))
    for one in limiters:
        await becomes(one, 0)


async def test_m05_a_changed_limit_never_exceeds_the_larger_value(redis: RedisAddress, start: LimiterStarter) -> None:
    """Two generations of a configuration with limits of 100 and 50 are active at the same time, for each kind of limit."""
    old, new = await start(redis), await start(redis)
    for kind in ("requests", "tokens", "spend", "concurrent"):
        window = {"spend": "month", "concurrent": ""}.get(kind, "h")
        limits = {limiter: Limit("key:mixed", kind, amount, window) for limiter, amount in ((old, 100), (new, 50))}  # type: ignore[arg-type]
        admitted = {old: 0, new: 0}
        for at in range(300):
            for limiter, limit in limits.items():
                if isinstance(await limiter.admit([limit], Costs(prompt_tokens=1, spend=1), f"m{kind}{at}{limit.amount}"), Reservation):
                    admitted[limiter] += 1
            if at == 60:
                assert admitted[new] == 25
        assert sum(admitted.values()) == 100
        assert admitted[new] == 25


def _now() -> int:
    from gateway.store.memory import steady_now

    return steady_now()

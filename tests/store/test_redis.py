"""The Redis limiter with a real Redis that is killed, frozen, emptied or filled with foreign values."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
import uvloop

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import NO_COSTS, Costs, Limit, Refusal, Reservation
from gateway.store.redis import RedisLimiter
from gateway.store.resp import RespConnection, connect
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter

_ids = itertools.count()


async def ask(limiter: RedisLimiter, *limits: Limit, **costs: int) -> Reservation | Refusal:
    """Request one decision with a new id."""
    return await limiter.admit(limits, Costs(**costs), f"r{next(_ids)}")


async def console(address: RedisAddress) -> RespConnection:
    """Return a separate connection for the test."""
    return await connect(address, lambda: None)


async def test_all_decisions_of_one_loop_iteration_are_one_command(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    before = limiter.connections.commands
    limit = Limit("k", "requests", 40, "min")
    found = await asyncio.gather(*(ask(limiter, limit) for _ in range(64)))
    assert sum(isinstance(one, Reservation) for one in found) == 40
    assert limiter.connections.commands == before + 1


async def test_a_flood_of_refused_calls_sends_few_commands(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    limit = Limit("k", "requests", 1, "h")
    await ask(limiter, limit)
    before, began = limiter.connections.commands, time.monotonic()
    for _ in range(50_000):
        assert isinstance(await ask(limiter, limit), Refusal)
    assert limiter.connections.commands - before <= 5 + 3 * (time.monotonic() - began)  # heartbeats, and one decision per second


async def test_two_limiters_share_one_limit(redis: RedisAddress, start: LimiterStarter) -> None:
    one, other = await start(redis), await start(redis)
    limit = Limit("k", "requests", 10, "min")
    found = await asyncio.gather(*(ask(limiter, limit) for _ in range(10) for limiter in (one, other)))
    assert sum(isinstance(answer, Reservation) for answer in found) == 10


async def test_m2_processes_with_uneven_load_that_start_and_stop_share_one_limit(redis: RedisAddress, start: LimiterStarter) -> None:
    limit, admitted = Limit("k", "requests", 200, "min"), 0
    limiters = [await start(redis), await start(redis)]
    for at in range(20):
        if at == 5:
            limiters.append(await start(redis))
        if at == 12:
            await limiters.pop(1).stop()
        shares = [18, *([1] * (len(limiters) - 1))]
        found = await asyncio.gather(*(ask(limiter, limit) for limiter, share in zip(limiters, shares, strict=True) for _ in range(share)))
        admitted += sum(isinstance(one, Reservation) for one in found)
    assert admitted == 200


async def test_m5_two_configurations_at_once_admit_at_most_the_larger_limit(redis: RedisAddress, start: LimiterStarter) -> None:
    old, new = await start(redis), await start(redis)
    larger, smaller = Limit("k", "requests", 100, "h"), Limit("k", "requests", 50, "h")
    admitted = {"old": 0, "new": 0}
    for _ in range(120):
        for name, limiter, limit in (("old", old, larger), ("new", new, smaller)):
            admitted[name] += isinstance(await ask(limiter, limit), Reservation)
    assert admitted["old"] + admitted["new"] == 100
    assert admitted["new"] == 25


async def test_a_caller_that_disconnects_during_a_decision_reserves_nothing(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    limit = Limit("k", "concurrent", 1)
    asking = asyncio.create_task(ask(limiter, limit))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    for _ in range(3000):
        found = await ask(limiter, limit)
        if isinstance(found, Reservation):
            break
        await asyncio.sleep(0.01)
    assert isinstance(found, Reservation)


async def test_flushed_scripts_are_reloaded_without_a_failure(redis: RedisAddress, start: LimiterStarter) -> None:
    reports: list[str] = []
    limiter = await start(redis, reports)
    other = await console(redis)
    limit = Limit("k", "requests", 10, "min")
    for _ in range(3):
        await other.execute("SCRIPT", "FLUSH")
        found = await ask(limiter, limit)
        assert isinstance(found, Reservation)
        assert not found.degraded
    other.abort()
    assert found.statuses[0].remaining == 7
    assert limiter.connections.errors["noscript"] == 3
    assert reports == []


@pytest.mark.parametrize("rubbish", [("SET", "x"), ("LPUSH", "x"), ("HSET", "h", "many", "s", "1", "l", "1")])
async def test_r17_a_foreign_value_is_deleted_and_the_outage_mode_decides(
    redis: RedisAddress, start: LimiterStarter, rubbish: tuple[str, ...]
) -> None:
    limiter = await start(redis)
    other = await console(redis)
    limit, second = Limit("k", "requests", 10, "min"), Limit("k", "tokens", 10, "min")
    await other.execute(rubbish[0], second.key, *rubbish[1:])
    found = await ask(limiter, limit, second, prompt_tokens=1)
    assert isinstance(found, Reservation)
    assert found.degraded
    assert limiter.corrupt_keys == 1
    found = await ask(limiter, limit, second, prompt_tokens=1)
    other.abort()
    assert isinstance(found, Reservation)
    assert not found.degraded
    assert found.statuses[0].remaining <= 9


async def test_the_lease_of_a_dead_process_ends(redis: RedisAddress, start: LimiterStarter) -> None:
    dead, alive = await start(redis, lease=1.0), await start(redis, lease=1.0)
    limit = Limit("k", "concurrent", 1)
    began = time.monotonic()
    await ask(dead, limit)
    assert dead._heartbeat_task is not None
    dead._heartbeat_task.cancel()
    assert isinstance(await ask(alive, limit), Refusal) or time.monotonic() - began > 1.0
    await asyncio.sleep(1.2)
    assert isinstance(await ask(alive, limit), Reservation)


async def test_the_lease_of_a_long_call_is_renewed(redis: RedisAddress, start: LimiterStarter) -> None:
    holder, other = await start(redis, lease=3.0), await start(redis, lease=3.0)
    limit = Limit("k", "concurrent", 1)
    held = await ask(holder, limit)
    assert isinstance(held, Reservation)
    for _ in range(9):
        began = time.monotonic()
        await asyncio.sleep(0.5)
        found = await ask(other, limit)
        if time.monotonic() - began > 2.0:
            return  # the machine paused, so the lease could not be renewed in time
        assert isinstance(found, Refusal)
    holder.settle(held, Costs())
    await eventually(lambda: not holder._leases)


async def test_r3_a_frozen_redis_delays_one_decision_until_its_timeout_and_then_none(own_redis: RedisServer, start: LimiterStarter) -> None:
    reports: list[str] = []
    limiter = await start(own_redis.address, reports, deadline=2.0)  # longer than a pause of a busy machine
    limit = Limit("k", "requests", 1000, "min")
    assert isinstance(await ask(limiter, limit), Reservation)
    own_redis.freeze()
    began = time.monotonic()
    first = await ask(limiter, limit)
    assert time.monotonic() - began >= 2.0
    assert isinstance(first, Reservation)
    assert first.degraded
    asked = limiter.connections.commands
    for _ in range(500):
        assert isinstance(await ask(limiter, limit), Reservation)
    assert limiter.connections.commands == asked
    own_redis.thaw()
    await eventually(lambda: limiter.connections.up)
    await eventually(lambda: not limiter._settlements)
    found = await ask(limiter, limit)
    assert isinstance(found, Reservation)
    assert not found.degraded
    # calls admitted during the outage are counted once: 1 before, 501 during, 1 now
    assert found.statuses[0].remaining == 1000 - 503
    await eventually(lambda: len(reports) > 1)
    assert [line.split(":")[1].split(" is ")[1].split(" (")[0] for line in reports] == ["unavailable", "available again; limits are shared"]


async def test_shares_apply_while_redis_is_unavailable(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiters = [await start(own_redis.address) for _ in range(3)]
    limit = Limit("k", "requests", 90, "min")
    used = [await ask(limiters[at % 3], limit) for at in range(30)]
    assert all(isinstance(one, Reservation) for one in used)
    await eventually(lambda: all(limiter.members == 3 for limiter in limiters))
    own_redis.kill()
    await eventually(lambda: not any(limiter.connections.up for limiter in limiters))
    found = [await ask(limiter, limit) for limiter in limiters for _ in range(60)]
    assert 54 <= sum(isinstance(one, Reservation) for one in found) <= 62  # a third of the remainder that each limiter knew: 62, 61, 60


@pytest.mark.parametrize(("outage", "admits"), [("open", True), ("closed", False)])
async def test_outage_modes_open_and_closed(own_redis: RedisServer, start: LimiterStarter, outage: str, admits: bool) -> None:
    limiter = await start(own_redis.address)
    own_redis.kill()
    await eventually(lambda: not limiter.connections.up)
    limit = Limit("k", "requests", 1, "min", outage=outage)  # type: ignore[arg-type]
    for _ in range(5):
        found = await ask(limiter, limit)
        assert isinstance(found, Reservation) is admits
        assert found.degraded
        assert admits or (isinstance(found, Refusal) and found.unavailable)
    assert limiter.outage.decisions == {outage: 5}


async def test_r5_usage_of_an_outage_is_replayed_to_an_empty_redis(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address)
    limit, calls = Limit("k", "tokens", 1000, "h"), Limit("k", "concurrent", 2)
    own_redis.kill()
    await eventually(lambda: not limiter.connections.up)
    ended, open_ = await ask(limiter, limit, calls, prompt_tokens=300), await ask(limiter, limit, calls, prompt_tokens=100)
    assert isinstance(ended, Reservation)
    assert isinstance(open_, Reservation)
    limiter.settle(ended, Costs(prompt_tokens=200))
    own_redis.start()
    await eventually(lambda: limiter.connections.up)
    found = await ask(limiter, limit, calls, prompt_tokens=1)
    assert isinstance(found, Reservation)
    assert [one.remaining for one in found.statuses] == [1000 - 200 - 100 - 1, 0]
    limiter.settle(open_, Costs(prompt_tokens=50))
    limiter.settle(found, Costs(prompt_tokens=1))
    found = await ask(limiter, limit, calls)
    assert isinstance(found, Reservation)
    assert [one.remaining for one in found.statuses] == [1000 - 200 - 50 - 1, 1]


async def test_settlements_of_an_outage_are_sent_after_it(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address, deadline=2.0)
    limit = Limit("k", "tokens", 100, "h")
    held = await ask(limiter, limit, prompt_tokens=90)
    assert isinstance(held, Reservation)
    own_redis.freeze()
    assert isinstance(await ask(limiter, limit), Reservation)
    limiter.settle(held, Costs(prompt_tokens=10))
    own_redis.thaw()
    await eventually(lambda: limiter.connections.up)
    found = await ask(limiter, limit)
    assert isinstance(found, Reservation)
    assert found.statuses[0].remaining == 90


async def test_r1_calls_are_admitted_if_redis_is_down_at_startup(own_redis: RedisServer, start: LimiterStarter) -> None:
    own_redis.kill()
    reports: list[str] = []
    limiter = await start(own_redis.address, reports)
    assert isinstance(await ask(limiter, Limit("k", "requests", 1, "min")), Reservation)
    await asyncio.sleep(0.5)
    assert len(reports) == 1
    own_redis.start()
    await eventually(lambda: limiter.connections.up)
    await eventually(lambda: len(reports) == 2)


async def test_r11_an_evicting_policy_is_reported_once(own_redis: RedisServer, start: LimiterStarter) -> None:
    other = await console(own_redis.address)
    await other.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    reports: list[str] = []
    limiter = await start(own_redis.address, reports)
    assert not limiter.connections.up
    assert ["noeviction" in line for line in reports] == [True]
    await other.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    other.abort()
    await eventually(lambda: limiter.connections.up)


async def test_r11_the_policy_is_checked_without_the_right_to_run_config(own_redis: RedisServer, start: LimiterStarter) -> None:
    other = await console(own_redis.address)
    rights = "on >pw ~lockgate:* resetchannels +@all -config"
    await other.execute("ACL", "SETUSER", "gateway", *rights.split())
    await other.execute("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    other.abort()
    reports: list[str] = []
    limiter = await start(RedisAddress(path=str(own_redis.socket), user="gateway", password="pw"), reports)
    assert not limiter.connections.up
    assert ["volatile-ttl" in line and "noeviction" in line for line in reports] == [True]


async def test_r16_a_wrong_password_is_reported_once(own_redis: RedisServer, start: LimiterStarter) -> None:
    other = await console(own_redis.address)
    await other.execute("CONFIG", "SET", "requirepass", "right")
    reports: list[str] = []
    limiter = await start(RedisAddress(path=str(own_redis.socket), password="wrong-password"), reports)
    await asyncio.sleep(0.3)
    assert not limiter.connections.up
    assert len(reports) == 1
    assert "WRONGPASS" in reports[0]
    assert "wrong-password" not in reports[0]
    right = await start(RedisAddress(path=str(own_redis.socket), password="right"))
    assert right.connections.up
    other.abort()


async def test_r14_cancelled_decisions_mix_up_no_replies(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)

    async def one(at: int) -> None:
        limit = Limit(f"k{at % 7}", "requests", 10**6 + at % 7, "h")
        found = await ask(limiter, limit)
        assert isinstance(found, Reservation)
        assert found.statuses[0].limit is limit
        assert 10**6 - 4000 < found.statuses[0].remaining < 10**6 + 7
        limiter.settle(found, NO_COSTS)

    for at in range(300):
        tasks = [asyncio.create_task(one(10 * at + each)) for each in range(10)]
        await asyncio.sleep(0 if at % 3 else 0.0005)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [result for result in results if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError)]


def test_the_limiter_works_with_uvloop(shared_redis: RedisAddress) -> None:
    """uvloop has transports and timers of its own."""

    async def scene() -> None:
        limiter = RedisLimiter(shared_redis, lambda line: None, timeout_s=20.0)
        await limiter.start()
        limit, calls = Limit("uv", "tokens", 100, "day"), Limit("uv", "concurrent", 3)
        found = await asyncio.gather(*(ask(limiter, limit, calls, prompt_tokens=30) for _ in range(8)))
        held = [one for one in found if isinstance(one, Reservation)]
        assert len(held) == 3
        assert not any(one.degraded for one in found)
        for one in held:
            limiter.settle(one, Costs(prompt_tokens=10))
        last = await ask(limiter, limit, calls)
        assert isinstance(last, Reservation)
        assert [one.remaining for one in last.statuses] == [70, 2]
        limiter.settle(last, NO_COSTS)
        await limiter.stop()
        other = await connect(shared_redis, lambda: None)
        assert await other.execute("ZCARD", calls.key) == 0
        await other.execute("FLUSHALL")
        other.abort()

    uvloop.run(scene())

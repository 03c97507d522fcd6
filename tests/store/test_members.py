"""Membership: missing processes, and the shares held back for them, which they may be using during a network partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.redis import RedisLimiter
from tests.faults.toxic_proxy import ToxicProxy
from tests.flows.live import eventually
from tests.store.decisions import decide, remaining, wait_for_remaining
from tests.support.redis import RedisServer
from tests.support.redis_topologies import ClusterServers, run_command

DECISION_TIMEOUT_S = 20.0

Joiner = Callable[..., Awaitable[RedisLimiter]]


@pytest.fixture
async def join() -> AsyncIterator[Joiner]:
    """Return a function that starts a limiter, which holds back the share of a missing one for `hold` seconds."""
    running: list[RedisLimiter] = []

    async def one(address: RedisAddress, *, hold: float = 120.0, seat: str = "", lease: float = 30.0) -> RedisLimiter:
        limiter = RedisLimiter(address, lambda line: None, timeout_s=DECISION_TIMEOUT_S, hold_back_s=hold, seat=seat, lease_s=lease)
        running.append(limiter)
        await limiter.start()
        return limiter

    yield one
    for limiter in running:
        await limiter.stop()


async def all_joined(*limiters: RedisLimiter) -> None:
    """Wait until each limiter counts all limiters as members, and has sent this number to the store as its divisor."""

    def views() -> set[tuple[int, int, int]]:
        return {(one.members, one._members.divisor, one._members._sent_divisor) for one in limiters}

    await eventually(lambda: views() == {(len(limiters),) * 3})
    await asyncio.sleep(0.05)


async def send_heartbeat(limiter: RedisLimiter, side: str) -> None:
    """Send a heartbeat and wait until the node of this side has replied."""
    before = limiter._members._due[side]
    limiter._members.send_heartbeat({})
    await eventually(lambda: limiter._members._due[side] != before)


async def kill(limiter: RedisLimiter) -> None:
    """End a limiter as SIGKILL does: without leaving the group."""
    assert limiter._heartbeat_task is not None
    limiter._heartbeat_task.cancel()
    await limiter.connections.stop()


async def test_share_of_a_dead_process_is_held_back_until_its_hold_back_time_ends(redis: RedisAddress, join: Joiner) -> None:
    budget, calls, many = Limit("k", "spend", 1000, "month"), Limit("k", "concurrent", 8), Limit("many", "concurrent", 8)
    one, other, leaving, dying = [await join(redis, hold=6.0, lease=lease) for lease in (6.0, 6.0, 6.0, 3.0)]
    for limit in (calls, many, many, many):
        assert isinstance(await decide(dying, limit), Reservation)
    await all_joined(one, other, leaving, dying)
    await kill(dying)
    await leaving.stop()
    assert await run_command(redis, "ZCARD", "lockgate:{caller}:members") == 3
    await wait_for_remaining(one, 68)  # a quarter is held back for `dying`, nothing for `leaving`
    assert await remaining(other) == 68
    assert await remaining(one, budget) == 1000
    assert one.members == 3  # the missing process may still be serving
    await eventually(lambda: one.member_counts == {"live": 2, "missing": 1})
    assert await remaining(one, calls) == 8 - 1 - 1  # the missing process's open call, and one more within its share
    assert await remaining(one, many) in (8 - 3, 8 - 2)  # the open calls exceed the share until their leases end
    await wait_for_remaining(one, 8, calls)  # after the leases have ended
    await wait_for_remaining(one, 8, many)
    assert await remaining(one) == 68
    await wait_for_remaining(one, 90)
    await eventually(lambda: one.members == other.members == 2)
    await eventually(lambda: one.member_counts == {"live": 2, "missing": 0})
    assert await run_command(redis, "HLEN", "lockgate:{caller}:told") == 2


async def test_retry_after_does_not_exceed_the_hold_back_time(redis: RedisAddress, join: Joiner) -> None:
    limit, full = Limit("k", "requests", 90, "day"), Limit("full", "requests", 10, "h")
    one, other = [await join(redis, hold=4.0) for _ in range(2)]
    await all_joined(one, other)
    for _ in range(44):
        assert isinstance(await decide(one, limit), Reservation)
    for _ in range(10):
        assert isinstance(await decide(one, full), Reservation)
    await kill(other)
    await wait_for_remaining(one, 1, limit)
    assert isinstance(await decide(one, limit), Reservation)
    refused = await decide(one, full)
    assert isinstance(refused, Refusal)
    assert (refused.retry_after or 0) > 3000  # a full limit still has its full wait
    refused = await decide(one, limit)
    assert isinstance(refused, Refusal)
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 4
    await asyncio.sleep(refused.retry_after)
    assert isinstance(await decide(one, limit), Reservation)
    too_much = await one.admit([limit], Costs(requests=91), "too much")
    assert isinstance(too_much, Refusal)
    assert too_much.retry_after is None


async def test_a_replacement_takes_over_its_own_seat_only(redis: RedisAddress, join: Joiner) -> None:
    one, same, crashing = await join(redis, seat="host 1"), await join(redis, seat="host 1"), await join(redis, seat="host 2")
    await all_joined(one, same, crashing)
    await kill(crashing)
    again = await join(redis, seat="host 2")
    await eventually(lambda: again.members == 3)
    await wait_for_remaining(one, 90)
    await all_joined(one, same, again)
    assert await run_command(redis, "ZCARD", "lockgate:{caller}:members") == 3  # two live processes with the same seat count as two


async def test_a_replacement_with_the_same_seat_gets_the_full_limit_at_once(redis: RedisAddress, join: Joiner) -> None:
    died = await join(redis, seat="host 1")
    await all_joined(died)
    await kill(died)
    again = await join(redis, seat="host 1")
    end = asyncio.get_running_loop().time() + OVERDUE_AFTER_S + 1
    while asyncio.get_running_loop().time() < end:
        assert await remaining(again) == 90
        await asyncio.sleep(0.02)


async def test_half_of_a_limit_is_held_back_for_a_dead_process_that_was_alone(redis: RedisAddress, join: Joiner) -> None:
    died = await join(redis, seat="host 1")
    await all_joined(died)
    await kill(died)
    await asyncio.sleep(OVERDUE_AFTER_S)
    elsewhere = await join(redis, seat="host 2")
    await eventually(lambda: elsewhere.member_counts == {"live": 1, "missing": 1})
    assert await remaining(elsewhere) == 45
    assert await remaining(elsewhere, Limit("k", "concurrent", 8)) == 4


async def test_a_smaller_divisor_is_sent_at_once(redis: RedisAddress, join: Joiner) -> None:
    one = await join(redis)
    await all_joined(one)
    assert one._heartbeat_task is not None
    one._heartbeat_task.cancel()
    await join(redis)
    one._members.send_heartbeat({})  # the reply counts the other process; no later heartbeat is sent
    info = b""
    while not info.startswith(b"2 "):
        info = await run_command(redis, "HGET", "lockgate:{caller}:told", one.instance)


async def test_each_side_of_a_cluster_has_its_own_members(shared_cluster: ClusterServers, join: Joiner) -> None:
    await shared_cluster.empty()
    target = Limit("provider:p", "requests", 90, "h", side="target")
    one, other = [await join(shared_cluster.address) for _ in range(2)]
    assert (await remaining(one, target), await remaining(other, target)) == (90, 90)
    await all_joined(one, other)
    for limiter in (one, other, one, other):  # twice: the first reply may be that of an earlier heartbeat
        await send_heartbeat(limiter, "target")
    await kill(other)
    await wait_for_remaining(one, 45)
    await wait_for_remaining(one, 45, target)


async def test_a_reconnected_process_replays_its_usage_before_its_share_is_released(own_redis: RedisServer, join: Joiner) -> None:
    async with ToxicProxy(own_redis.port) as proxy:
        one, cut = await join(own_redis.address), await join(RedisAddress(port=proxy.port))
        assert await remaining(cut) == 90
        await all_joined(one, cut)
        proxy.part(True)
        cut.connections._connections["caller"]._timeout_s = 0.1
        await eventually(lambda: not cut.connections.up)
        await asyncio.sleep(1.1)  # a heartbeat delayed by more than a second is ignored
        used = 0
        while isinstance(found := await decide(cut), Reservation):
            assert found.degraded
            cut.settle(found, Costs())
            used += 1
        assert used == 45
        await wait_for_remaining(one, 45)
        proxy.part(False)
        cut.connections._connections["caller"]._timeout_s = DECISION_TIMEOUT_S
        seen = {await remaining(one)}
        while not cut.connections.up or len(cut._members._due) < 1 or one.members < 2:
            seen.add(await remaining(one))
            await asyncio.sleep(0.01)
        await wait_for_remaining(one, 45)
        assert seen <= {0, 45}  # held back, held back and replayed, or replayed: never more

"""Who is missing among those who share a store, and what is held back for them: the share that they may be using out of its sight."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.memory import MemoryLimiter, steady_now
from gateway.store.outage import OutageLimiter
from gateway.store.redis import RedisLimiter
from gateway.store.usage_replay import SlotUsage, UsageReplay
from tests.faults.toxic_proxy import ToxicProxy
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_topologies import ClusterServers, ask

_ids = itertools.count()
PATIENCE = 20.0
HOUR = Limit("k", "requests", 90, "h")

Seated = Callable[..., Awaitable[RedisLimiter]]


@pytest.fixture
async def join() -> AsyncIterator[Seated]:
    """Start limiters that give up a missing one after `hold` seconds."""
    running: list[RedisLimiter] = []

    async def one(address: RedisAddress, *, hold: float = 120.0, seat: str = "", lease: float = 30.0) -> RedisLimiter:
        limiter = RedisLimiter(address, lambda line: None, timeout_s=PATIENCE, hold_back_s=hold, seat=seat, lease_s=lease)
        running.append(limiter)
        await limiter.start()
        return limiter

    yield one
    for limiter in running:
        await limiter.stop()


async def decide(limiter: RedisLimiter, limit: Limit = HOUR) -> Reservation | Refusal:
    """One decision."""
    return await limiter.admit([limit], Costs(prompt_tokens=1), f"m{next(_ids)}")


async def left(limiter: RedisLimiter, limit: Limit = HOUR) -> int:
    """What remains for those who can ask; asking takes nothing."""
    found = await limiter.admit([limit], Costs(requests=0), f"m{next(_ids)}")
    if isinstance(found, Reservation):
        limiter.settle(found, Costs(requests=0))
    return found.statuses[0].remaining + (limit.slot == NO_SLOT and isinstance(found, Reservation))


async def becomes(limiter: RedisLimiter, remaining: int, limit: Limit = HOUR) -> None:
    """Until that much remains."""
    end = asyncio.get_running_loop().time() + 30
    while (found := await left(limiter, limit)) != remaining:
        assert asyncio.get_running_loop().time() < end, found
        await asyncio.sleep(0.05)


async def know(*limiters: RedisLimiter) -> None:
    """Until each knows of all, and the store knows that it does."""
    await eventually(lambda: all((one.members, one._members.divisor, one._members._sent_divisor) == (len(limiters),) * 3 for one in limiters))
    await asyncio.sleep(0.05)


async def kill(limiter: RedisLimiter) -> None:
    """As SIGKILL does: it says nothing any more, goodbye included."""
    assert limiter._heartbeat_task is not None
    limiter._heartbeat_task.cancel()
    await limiter.connections.stop()


async def test_who_leaves_without_a_goodbye_has_its_share_held_back_until_it_is_given_up(redis: RedisAddress, join: Seated) -> None:
    budget, calls, many = Limit("k", "spend", 1000, "month"), Limit("k", "concurrent", 8), Limit("many", "concurrent", 8)
    one, other, leaving, dying = [await join(redis, hold=6.0, lease=lease) for lease in (6.0, 6.0, 6.0, 3.0)]
    for limit in (calls, many, many, many):
        assert isinstance(await decide(dying, limit), Reservation)
    await know(one, other, leaving, dying)
    await kill(dying)
    await leaving.stop()
    assert await ask(redis, "ZCARD", "lockgate:{caller}:members") == 3
    await becomes(one, 68)  # less a fourth, as it was told; nothing for the one that said goodbye
    assert await left(other) == 68
    assert await left(one, budget) == 1000
    assert one.members == 3  # it may be serving
    await eventually(lambda: one.member_counts == {"live": 2, "missing": 1})
    assert await left(one, calls) == 8 - 1 - 1  # a call that it has, and one more that it may have
    assert await left(one, many) in (8 - 3, 8 - 2)  # it has more than its share, until its leases end
    await becomes(one, 8, calls)  # when leases have ended
    await becomes(one, 8, many)
    assert await left(one) == 68
    await becomes(one, 90)
    await eventually(lambda: one.members == other.members == 2)
    await eventually(lambda: one.member_counts == {"live": 2, "missing": 0})
    assert await ask(redis, "HLEN", "lockgate:{caller}:told") == 2


async def test_what_is_held_back_refuses_for_no_longer_than_it_can_last(redis: RedisAddress, join: Seated) -> None:
    limit, full = Limit("k", "requests", 90, "day"), Limit("full", "requests", 10, "h")
    one, other = [await join(redis, hold=4.0) for _ in range(2)]
    await know(one, other)
    for _ in range(44):
        assert isinstance(await decide(one, limit), Reservation)
    for _ in range(10):
        assert isinstance(await decide(one, full), Reservation)
    await kill(other)
    await becomes(one, 1, limit)
    assert isinstance(await decide(one, limit), Reservation)
    refused = await decide(one, full)
    assert isinstance(refused, Refusal)
    assert (refused.retry_after or 0) > 3000  # what is full besides is waited for as ever
    refused = await decide(one, limit)
    assert isinstance(refused, Refusal)
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 4
    await asyncio.sleep(refused.retry_after)
    assert isinstance(await decide(one, limit), Reservation)
    too_much = await one.admit([limit], Costs(requests=91), "too much")
    assert isinstance(too_much, Refusal)
    assert too_much.retry_after is None


async def test_a_process_that_is_started_again_takes_its_seat_and_no_other(redis: RedisAddress, join: Seated) -> None:
    one, same, crashing = await join(redis, seat="host 1"), await join(redis, seat="host 1"), await join(redis, seat="host 2")
    await know(one, same, crashing)
    await kill(crashing)
    again = await join(redis, seat="host 2")
    await eventually(lambda: again.members == 3)
    await becomes(one, 90)
    await know(one, same, again)
    assert await ask(redis, "ZCARD", "lockgate:{caller}:members") == 3  # two who have one seat by mistake are two


async def test_who_comes_in_the_stead_of_one_that_died_is_refused_nothing(redis: RedisAddress, join: Seated) -> None:
    died = await join(redis, seat="host 1")
    await know(died)
    await kill(died)
    again = await join(redis, seat="host 1")
    end = asyncio.get_running_loop().time() + OVERDUE_AFTER_S + 1
    while asyncio.get_running_loop().time() < end:
        assert await left(again) == 90
        await asyncio.sleep(0.02)


async def test_of_one_that_was_alone_as_it_died_a_half_is_held_back(redis: RedisAddress, join: Seated) -> None:
    died = await join(redis, seat="host 1")
    await know(died)
    await kill(died)
    await asyncio.sleep(OVERDUE_AFTER_S)
    elsewhere = await join(redis, seat="host 2")
    await eventually(lambda: elsewhere.member_counts == {"live": 1, "missing": 1})
    assert await left(elsewhere) == 45
    assert await left(elsewhere, Limit("k", "concurrent", 8)) == 4


async def test_the_store_hears_at_once_that_a_share_became_smaller(redis: RedisAddress, join: Seated) -> None:
    one = await join(redis)
    await know(one)
    assert one._heartbeat_task is not None
    one._heartbeat_task.cancel()
    await join(redis)
    one._members.send_heartbeat({})  # the answer tells it of the other; no later beat comes
    told = b""
    while not told.startswith(b"2 "):
        told = await ask(redis, "HGET", "lockgate:{caller}:told", one.instance)


async def test_each_side_of_a_cluster_knows_its_own(shared_cluster: ClusterServers, join: Seated) -> None:
    await shared_cluster.empty()
    target = Limit("provider:p", "requests", 90, "h", side="target")
    one, other = [await join(shared_cluster.address) for _ in range(2)]
    assert (await left(one, target), await left(other, target)) == (90, 90)
    await know(one, other)
    await kill(other)
    await becomes(one, 45)
    await becomes(one, 45, target)


async def test_one_that_returns_tells_what_it_used_before_its_share_is_given_back(own_redis: RedisServer, join: Seated) -> None:
    async with ToxicProxy(own_redis.port) as proxy:
        one, cut = await join(own_redis.address), await join(RedisAddress(port=proxy.port))
        assert await left(cut) == 90
        await know(one, cut)
        proxy.part(True)
        cut.connections._connections["caller"]._timeout_s = 0.1
        await eventually(lambda: not cut.connections.up)
        await asyncio.sleep(1.1)  # what it said last is under way; after a second nobody believes it any more
        used = 0
        while isinstance(found := await decide(cut), Reservation):
            assert found.degraded
            cut.settle(found, Costs())
            used += 1
        assert used == 45
        await becomes(one, 45)
        proxy.part(False)
        cut.connections._connections["caller"]._timeout_s = PATIENCE
        seen = {await left(one)}
        while not cut.connections.up or len(cut._members._due) < 1 or one.members < 2:
            seen.add(await left(one))
            await asyncio.sleep(0.01)
        await becomes(one, 45)
        assert seen <= {0, 45}  # held back, told and held back, told: never more


def test_a_long_outage_is_told_by_what_counts_still() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    minute, hour = Limit("k", "tokens", 6000, "min"), Limit("k", "tokens", 10**6, "h")
    outage.begin(1)
    for at in range(600):  # ten minutes, ten tokens a second
        moment[0] += US_PER_S
        found = outage.decide([minute, hour], Costs(prompt_tokens=10), f"o{at}")
        assert isinstance(found, Reservation)
        outage.settle(found, Costs(prompt_tokens=10))
    told = {used.limit.window: sum(used.slots.values()) for used in outage.recover()[0]}
    assert 600 <= told["min"] <= 620
    assert told["h"] == 6000
    assert outage.recover() == ([], [])


async def test_what_was_used_meanwhile_is_told_where_it_belongs_and_once(redis: RedisAddress, join: Seated) -> None:
    limiter = await join(redis)
    minute, empty = Limit("k", "tokens", 6000, "min"), Limit("empty", "tokens", 1000, "h")
    for at in range(3):
        await limiter.admit([minute], Costs(prompt_tokens=100), f"before{at}")
    now = minute.slot_at(steady_now())
    answers = iter([ConnectionError("lost after it was carried out")])

    def run(script: str, keys: Sequence[str], arguments: Sequence[Any], done: Callable[[Any], Any]) -> None:
        limiter.connections.run(script, keys, arguments, lambda reply: done(next(answers, reply)))

    catching_up = UsageReplay(run)
    ages = (0, 1, 30, 60, minute.slots - 5, minute.slots + 5, 10 * minute.slots)
    used = [SlotUsage(minute, {now - age: 50 for age in ages}), SlotUsage(empty, {empty.slot_at(steady_now()) - age: 7 for age in (3, 100)})]
    catching_up.replay(used)
    await eventually(lambda: len(catching_up._pending) == 2)
    catching_up.replay([])  # nobody knows that it was carried out: it is told again
    assert await left(limiter, minute) == 6000 - 3 * 100 - 5 * 50  # what is past was left out
    assert await left(limiter, empty) == 1000 - 2 * 7
    slots = {int(field) for field in (await ask(redis, "HGETALL", minute.key))[::2] if field.isdigit()}
    assert len(slots) in (4, 5)
    assert max(slots) - min(slots) in range(minute.slots - 8, minute.slots - 3)
    found = await limiter.admit([minute], Costs(prompt_tokens=5500), "too much for now")
    assert isinstance(found, Refusal)
    assert found.retry_after is not None
    assert found.retry_after < 10  # until the oldest of it counts no more


def test_what_was_left_is_used_once_until_a_window_after_it_was_noticed() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    limit = Limit("k", "requests", 300, "s")
    outage.record_status(limit, 90, limit.slot_at(moment[0]))
    outage.begin(3)
    admitted: list[int] = []
    began, count = moment[0], itertools.count()
    while moment[0] < began + 6 * US_PER_S:
        moment[0] += US_PER_S // 500
        if isinstance(outage.decide([limit], Costs(), f"o{next(count)}"), Reservation):
            admitted.append(moment[0] - began)
    slid = int((OVERDUE_AFTER_S + 1) * US_PER_S)
    assert sum(at < slid for at in admitted) == 30  # its part of what was left
    assert sum(slid <= at < slid + US_PER_S for at in admitted) in range(90, 101)  # its share
    for at in admitted:
        assert sum(at - US_PER_S < one <= at for one in admitted) <= 100


def test_calls_go_on_with_as_many_as_there_were_and_later_with_a_share() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    few, many, full = (Limit(name, "concurrent", 30) for name in ("few", "many", "full"))
    before = [
        Reservation(f"{limit.key}{at}", [limit], Costs(), [NO_SLOT], (), 0)
        for limit, n in ((few, 2), (many, 15), (full, 5))
        for at in range(n)
    ]
    for limit, left in ((few, 9), (many, 9), (full, 0)):
        outage.record_status(limit, left, NO_SLOT)
    outage.begin(3, before)

    def more(limit: Limit, name: str) -> int:
        return sum(isinstance(outage.decide([limit], Costs(), f"{limit.key}{name}{at}"), Reservation) for at in range(30))

    assert [more(limit, "a") for limit in (few, many, full)] == [3, 0, 0]  # a third of what was left, and no more than a share
    for one in before:
        outage.call_ended(one)
    assert [more(limit, "b") for limit in (few, many, full)] == [2, 15, 5]
    moment[0] += 21 * US_PER_S
    assert [more(limit, "c") for limit in (few, many, full)] == [5, 0, 5]  # a share of ten


def test_a_limit_in_full_use_leaves_nothing_until_then() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    nearly, refused, free = (Limit(name, "requests", 300, "min") for name in ("nearly", "refused", "free"))
    outage.record_refusal(refused, 0)
    moment[0] += US_PER_S
    for limit, left in ((nearly, 12), (refused, 150), (free, 150)):
        outage.record_status(limit, left, limit.slot_at(moment[0]))
    outage.begin(3)
    found = [isinstance(outage.decide([limit], Costs(), limit.key), Reservation) for limit in (nearly, refused, free)]
    assert found == [False, False, True]


async def test_memory_has_nobody_to_wait_for() -> None:
    limiter = MemoryLimiter()
    found = [await limiter.admit([HOUR], Costs(), f"n{at}") for at in range(91)]
    assert [isinstance(one, Reservation) for one in found] == [True] * 90 + [False]

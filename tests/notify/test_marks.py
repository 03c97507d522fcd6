"""Marks of sent notifications, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.config.redis_address import RedisAddress
from gateway.notify.marks import MAX_MARKS, TAG, Marks
from gateway.store.redis_client import open_client
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis, redis, shared_redis

__all__ = ["own_redis", "redis", "shared_redis"]


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_mark_in_memory_is_claimed_once_until_it_expires() -> None:
    clock = Clock()
    marks = Marks(now=clock)
    assert [await marks.claim("a", 10), await marks.claim("a", 10), await marks.claim("b", 10)] == [True, False, True]
    clock.now = 10.0
    assert await marks.claim("a", 10)


async def test_released_mark_can_be_claimed_again() -> None:
    marks = Marks()
    await marks.claim("a", 10)
    assert [await marks.release("a"), await marks.release("a")] == [True, False]
    assert await marks.claim("a", 10)


async def test_renewed_mark_lasts_longer() -> None:
    clock = Clock()
    marks = Marks(now=clock)
    await marks.claim("a", 10)
    clock.now = 9.0
    await marks.renew("a", 10)
    clock.now = 18.0
    assert not await marks.claim("a", 10)


async def test_number_of_marks_in_memory_is_bounded() -> None:
    marks = Marks()
    for number in range(MAX_MARKS + 10):
        await marks.claim(str(number), 1000)
    assert len(marks._known) == MAX_MARKS
    assert not await marks.claim(str(MAX_MARKS + 9), 1000)


async def test_only_one_of_several_processes_claims_and_releases_a_mark(redis: RedisAddress) -> None:
    processes = [Marks(partial(open_client, redis, TAG)) for _ in range(5)]
    assert sorted(await asyncio.gather(*(marks.claim("a", 60) for marks in processes))) == [False] * 4 + [True]
    for marks in processes:
        await marks.renew("a", 60)
    assert sorted(await asyncio.gather(*(marks.release("a") for marks in processes))) == [False] * 4 + [True]
    assert await processes[0].claim("a", 60)
    for marks in processes:
        await marks.stop()


async def test_mark_expires_in_redis(redis: RedisAddress) -> None:
    one, other = (Marks(partial(open_client, redis, TAG)) for _ in range(2))
    assert await one.claim("a", 0.05)
    await one.claim("b", 3600)
    while not await other.claim("a", 60):
        other._known.clear()
        await asyncio.sleep(0.02)
    client = open_client(redis, TAG)
    assert 3500 < await client.ttl("lockgate:{notify}:b") <= 3600
    await client.aclose()
    await one.stop()
    await other.stop()


async def test_each_process_decides_alone_while_redis_is_unavailable(own_redis: RedisServer) -> None:
    one, other = (Marks(partial(open_client, own_redis.address, TAG)) for _ in range(2))
    own_redis.kill()
    assert [await one.claim("a", 60), await one.claim("a", 60), await other.claim("a", 60)] == [True, False, True]
    assert [await one.release("a"), await one.release("a")] == [True, False]
    await one.stop()
    await other.stop()

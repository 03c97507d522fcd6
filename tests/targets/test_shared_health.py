"""Cooldowns through a real Redis: heard within about a second, told by Redis' clock, kept over a restart, forgotten when they are over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

import providers
from gateway.config.provider import ProviderConfig
from gateway.config.redis_address import RedisAddress
from gateway.store.outage_log import OutageLog
from gateway.store.redis_client import open_client
from gateway.targets.cooldown import fingerprint
from gateway.targets.registry import Health
from gateway.targets.shared_health import KEY, SharedHealth
from providers.base import Failure, Target
from tests.faults.upstream_server import closed_port
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis, redis, shared_redis

__all__ = ["own_redis", "redis", "shared_redis"]

Join = Callable[..., Awaitable[Health]]
TARGET = Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", "one")
OTHER = Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", "two")
FAILED = Failure("server_error", "", 500)
LIMITED = Failure("rate_limit", "slow down", 429, retry_after=20.0)


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Start instances: `join(address, reports)`."""
    running: list[SharedHealth] = []

    async def one(address: RedisAddress, reports: list[str] | None = None) -> Health:
        health = Health()
        health.configure({"p": ProviderConfig(name="p")})
        say = OutageLog(([] if reports is None else reports).append).for_subject("cooldowns")
        shared = SharedHealth(health, partial(open_client, address, "health"), say, every=0.1)
        running.append(shared)
        await shared.start()
        return health

    yield one
    for shared in running:
        await shared.stop()


async def test_u29_what_cools_here_cools_everywhere(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    here.of(TARGET).fail(TARGET, LIMITED)
    await eventually(lambda: there.of(TARGET).state == "cooling")
    assert there.of(TARGET).cooling.reason == "rate_limit"
    assert abs(here.of(TARGET).left - there.of(TARGET).left) < 1


async def test_u29_a_process_that_starts_anew_recovers_on_schedule(redis: RedisAddress, join: Join) -> None:
    before = await join(redis)
    for _ in range(5):
        before.of(TARGET).fail(TARGET, Failure("server_error", "", 500))
    other = await join(redis)
    await eventually(lambda: other.of(TARGET).state == "cooling")
    after = await join(redis)
    assert after.of(TARGET).state == "cooling"
    assert abs(after.of(TARGET).left - before.of(TARGET).left) < 1
    assert after.of(TARGET).ejected


async def test_u29_a_credential_is_known_by_no_part_of_it(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    for health in (here, there):
        health.of(TARGET).pick([TARGET, OTHER])
    here.of(TARGET).fail(OTHER, LIMITED)
    await eventually(lambda: any(one.reason for one in there.of(TARGET).credentials()))
    assert [one.reason for one in there.of(TARGET).credentials()] == [None, "rate_limit"]
    assert there.of(TARGET).state == "live"
    client: Any = open_client(redis, "health")
    assert list(await client.hgetall(KEY)) == [f"p/m\0{fingerprint(OTHER)}".encode()]
    await client.aclose()


async def test_what_is_over_is_forgotten_in_the_store(redis: RedisAddress, join: Join) -> None:
    here = await join(redis)
    client: Any = open_client(redis, "health")
    here.of(TARGET).fail(TARGET, Failure("rate_limit", "", 429, retry_after=1.0))

    async def known() -> int:
        return int(await client.hlen(KEY))

    began = time.monotonic()
    while not await known():
        assert time.monotonic() - began < 5
    while await known():
        assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 0.9
    here.of(TARGET).fail(TARGET, LIMITED)
    while not await known():
        assert time.monotonic() - began < 15
    here.of(TARGET).succeed(TARGET, time.monotonic())
    while b" over " not in (await client.hget(KEY, "p/m")):  # until all have heard of it
        assert time.monotonic() - began < 20
    assert 55_000 < int((await client.hget(KEY, "p/m")).split()[0]) - time.time() * 1000 <= 60_000
    await client.aclose()


@pytest.mark.parametrize("failure", [LIMITED, FAILED], ids=["rate limit", "failures"])
async def test_u29_who_is_back_early_is_back_everywhere(redis: RedisAddress, join: Join, failure: Failure) -> None:
    here, there = await join(redis), await join(redis)
    for _ in range(5):
        here.of(TARGET).fail(TARGET, failure)
    await eventually(lambda: there.of(TARGET).state == "cooling")
    there.of(TARGET).succeed(TARGET, time.monotonic())
    assert here.of(TARGET).left > 10
    await eventually(lambda: here.of(TARGET).state == "live")
    assert (here.of(TARGET).ejected, here.of(TARGET).failures) == (False, 0)
    late = await join(redis)
    assert late.of(TARGET).state == "live"
    for _ in range(5):
        late.of(TARGET).fail(TARGET, failure)  # what comes after the end counts anew
    await eventually(lambda: here.of(TARGET).state == there.of(TARGET).state == "cooling")


async def test_u29_a_credential_that_is_back_early_is_back_everywhere(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    for health in (here, there):
        health.of(TARGET).pick([TARGET, OTHER])
    here.of(TARGET).fail(OTHER, LIMITED)
    await eventually(lambda: there.of(TARGET).credentials()[1].reason == "rate_limit")
    there.of(TARGET).succeed(OTHER, time.monotonic())
    await eventually(lambda: [one.reason for one in here.of(TARGET).credentials()] == [None, None])


async def test_an_end_says_nothing_of_what_began_after_it() -> None:
    now = [100.0]
    health = Health(lambda: now[0])
    health.configure({"p": ProviderConfig(name="p")})
    health.of(TARGET).fail(TARGET, LIMITED)
    now[0] = 102.0
    health.hear_end("p/m", None, 3.0)
    assert health.of(TARGET).state == "cooling"
    health.hear_end("p/m", None, 1.0)
    assert health.of(TARGET).state == "live"


async def test_p2_a_store_that_is_away_does_not_hold_up_the_end(redis: RedisAddress) -> None:
    health = Health()
    shared = SharedHealth(
        health,
        partial(open_client, RedisAddress(host="127.0.0.1", port=closed_port()), "health"),
        OutageLog(print).for_subject("cooldowns"),
        every=60.0,
    )
    await shared.start()
    health.tell("p/m", None, 30.0, "failures")
    await asyncio.sleep(0.1)  # it has looked again by now, and waits
    await shared.stop()
    assert shared._task is not None
    assert shared._task.done()
    assert not shared._task.cancelled()


async def test_while_the_store_is_away_everybody_goes_by_what_they_see_and_tells_it_later(own_redis: RedisServer, join: Join) -> None:
    reports: list[str] = []
    here, there = await join(own_redis.address, reports), await join(own_redis.address)
    own_redis.kill()
    await eventually(lambda: bool(reports))
    here.of(TARGET).fail(TARGET, LIMITED)
    assert here.of(TARGET).state == "cooling"
    own_redis.start()
    await eventually(lambda: there.of(TARGET).state == "cooling", 20)
    await eventually(lambda: reports[-1] == "store: cooldowns are shared again")
    assert len(reports) == 2
    assert "one" not in reports[0].split()


async def test_targets_of_no_provider_here_are_not_kept(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    here.tell("gone/m", None, 30.0, "failures")
    here.tell("p/m", None, 30.0, "failures")
    await eventually(lambda: there.of(TARGET).state == "cooling")
    assert [one.name for one in there.all()] == ["p/m"]

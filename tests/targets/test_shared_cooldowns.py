"""Cooldowns shared through a real Redis: applied within about a second, kept across a restart, removed after their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

import providers
from benchmarks.ports import free_port
from gateway.config.provider import ProviderConfig
from gateway.config.redis_address import RedisAddress
from gateway.store.outage_log import OutageLog
from gateway.store.redis_client import open_client
from gateway.targets.cooldown import fingerprint
from gateway.targets.registry import TargetRegistry
from gateway.targets.shared_cooldowns import KEY, SharedCooldowns
from providers.base import Failure, Target
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis, redis, shared_redis

__all__ = ["own_redis", "redis", "shared_redis"]

Join = Callable[..., Awaitable[TargetRegistry]]
TARGET = Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", "one")
OTHER = Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", "two")
FAILED = Failure("server_error", "", 500)
LIMITED = Failure("rate_limit", "slow down", 429, retry_after=20.0)


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Return a function that starts an instance and returns its registry: `join(address, reports)`."""
    running: list[SharedCooldowns] = []

    async def one(address: RedisAddress, reports: list[str] | None = None) -> TargetRegistry:
        health = TargetRegistry()
        health.configure({"p": ProviderConfig(name="p")})
        report = OutageLog(([] if reports is None else reports).append).for_subject("cooldowns")
        shared = SharedCooldowns(health, partial(open_client, address, "health"), report, interval_s=0.1)
        running.append(shared)
        await shared.start()
        return health

    yield one
    for shared in running:
        await shared.stop()


async def test_u29_a_cooldown_applies_to_every_instance(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    here.health_of(TARGET).record_failure(TARGET, LIMITED)
    await eventually(lambda: there.health_of(TARGET).state == "cooling")
    assert there.health_of(TARGET).cooldown.reason == "rate_limit"
    assert abs(here.health_of(TARGET).seconds_left - there.health_of(TARGET).seconds_left) < 1


async def test_u29_a_restarted_process_applies_the_rest_of_the_cooldown(redis: RedisAddress, join: Join) -> None:
    before = await join(redis)
    for _ in range(5):
        before.health_of(TARGET).record_failure(TARGET, Failure("server_error", "", 500))
    other = await join(redis)
    await eventually(lambda: other.health_of(TARGET).state == "cooling")
    after = await join(redis)
    assert after.health_of(TARGET).state == "cooling"
    assert abs(after.health_of(TARGET).seconds_left - before.health_of(TARGET).seconds_left) < 1
    assert after.health_of(TARGET).ejected


async def test_u29_credentials_are_stored_by_fingerprint(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    for health in (here, there):
        health.health_of(TARGET).pick_credential([TARGET, OTHER])
    here.health_of(TARGET).record_failure(OTHER, LIMITED)
    await eventually(lambda: any(one.reason for one in there.health_of(TARGET).credential_cooldowns()))
    assert [one.reason for one in there.health_of(TARGET).credential_cooldowns()] == [None, "rate_limit"]
    assert there.health_of(TARGET).state == "live"
    client: Any = open_client(redis, "health")
    assert list(await client.hgetall(KEY)) == [f"p/m\0{fingerprint(OTHER)}".encode()]
    await client.aclose()


async def test_ended_cooldowns_are_removed_from_the_store(redis: RedisAddress, join: Join) -> None:
    here = await join(redis)
    client: Any = open_client(redis, "health")
    here.health_of(TARGET).record_failure(TARGET, Failure("rate_limit", "", 429, retry_after=1.0))

    async def known() -> int:
        return int(await client.hlen(KEY))

    began = time.monotonic()
    while not await known():
        assert time.monotonic() - began < 5
    while await known():
        assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 0.9
    here.health_of(TARGET).record_failure(TARGET, LIMITED)
    while not await known():
        assert time.monotonic() - began < 15
    here.health_of(TARGET).record_success(TARGET, time.monotonic())
    while b" over " not in (await client.hget(KEY, "p/m")):  # stored until every instance has read it
        assert time.monotonic() - began < 20
    assert 55_000 < int((await client.hget(KEY, "p/m")).split()[0]) - time.time() * 1000 <= 60_000
    await client.aclose()


@pytest.mark.parametrize("failure", [LIMITED, FAILED], ids=["rate limit", "failures"])
async def test_u29_an_early_recovery_applies_to_every_instance(redis: RedisAddress, join: Join, failure: Failure) -> None:
    here, there = await join(redis), await join(redis)
    for _ in range(5):
        here.health_of(TARGET).record_failure(TARGET, failure)
    await eventually(lambda: there.health_of(TARGET).state == "cooling")
    there.health_of(TARGET).record_success(TARGET, time.monotonic())
    assert here.health_of(TARGET).seconds_left > 10
    await eventually(lambda: here.health_of(TARGET).state == "live")
    assert (here.health_of(TARGET).ejected, here.health_of(TARGET).failures) == (False, 0)
    late = await join(redis)
    assert late.health_of(TARGET).state == "live"
    for _ in range(5):
        late.health_of(TARGET).record_failure(TARGET, failure)  # a cooldown after the recovery is shared again
    await eventually(lambda: here.health_of(TARGET).state == there.health_of(TARGET).state == "cooling")


async def test_u29_an_early_recovery_of_a_credential_applies_to_every_instance(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    for health in (here, there):
        health.health_of(TARGET).pick_credential([TARGET, OTHER])
    here.health_of(TARGET).record_failure(OTHER, LIMITED)
    await eventually(lambda: there.health_of(TARGET).credential_cooldowns()[1].reason == "rate_limit")
    there.health_of(TARGET).record_success(OTHER, time.monotonic())
    await eventually(lambda: [one.reason for one in here.health_of(TARGET).credential_cooldowns()] == [None, None])


async def test_a_remote_recovery_does_not_end_a_later_cooldown() -> None:
    now = [100.0]
    health = TargetRegistry(lambda: now[0])
    health.configure({"p": ProviderConfig(name="p")})
    health.health_of(TARGET).record_failure(TARGET, LIMITED)
    now[0] = 102.0
    health.end_remote("p/m", None, 3.0)
    assert health.health_of(TARGET).state == "cooling"
    health.end_remote("p/m", None, 1.0)
    assert health.health_of(TARGET).state == "live"


async def test_p2_an_unavailable_store_does_not_delay_the_shutdown(redis: RedisAddress) -> None:
    health = TargetRegistry()
    shared = SharedCooldowns(
        health,
        partial(open_client, RedisAddress(host="127.0.0.1", port=free_port()), "health"),
        OutageLog(print).for_subject("cooldowns"),
        interval_s=60.0,
    )
    await shared.start()
    health.publish("p/m", None, 30.0, "failures")
    await asyncio.sleep(0.1)  # the instance has tried again by now, and waits
    await shared.stop()
    assert shared._task is not None
    assert shared._task.done()
    assert not shared._task.cancelled()


async def test_during_an_outage_each_instance_uses_its_own_cooldowns_and_publishes_them_later(own_redis: RedisServer, join: Join) -> None:
    reports: list[str] = []
    here, there = await join(own_redis.address, reports), await join(own_redis.address)
    own_redis.kill()
    await eventually(lambda: bool(reports))
    here.health_of(TARGET).record_failure(TARGET, LIMITED)
    assert here.health_of(TARGET).state == "cooling"
    own_redis.start()
    await eventually(lambda: there.health_of(TARGET).state == "cooling", 20)
    await eventually(lambda: reports[-1] == "store: cooldowns are shared again")
    assert len(reports) == 2
    assert "one" not in reports[0].split()


async def test_targets_of_unknown_providers_are_ignored(redis: RedisAddress, join: Join) -> None:
    here, there = await join(redis), await join(redis)
    here.publish("gone/m", None, 30.0, "failures")
    here.publish("p/m", None, 30.0, "failures")
    await eventually(lambda: there.health_of(TARGET).state == "cooling")
    assert [one.name for one in there.all()] == ["p/m"]

"""Reading the usage of limits from Redis: over a connection of its own, with foreign values, and without a server."""

from __future__ import annotations

import pytest

from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.limit_usage import usage_at
from gateway.store.redis import RedisLimiter
from gateway.store.usage_script import READ_USAGE
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import ClusterServers, run_command

LIMITS = [
    Limit("k", "requests", 10, "min"), Limit("k", "concurrent", 4), Limit("k", "spend", 100, "month", timezone="Asia/Tokyo"),
    Limit("p", "tokens", 50, "h", side="target"),
]  # fmt: skip


@pytest.mark.parametrize("servers", ["redis", "cluster"], indirect=True)
async def test_another_process_reads_the_same_usage(limiter: RedisLimiter, servers: object) -> None:
    for at in range(3):
        found = await limiter.admit(LIMITS[:3], Costs(spend=20), f"u{at}")
        assert isinstance(found, Reservation)
        if at == 2:
            limiter.settle(found, Costs(spend=7))
    await limiter.admit(LIMITS[3:], Costs(prompt_tokens=5), "target")
    own = await limiter.usage(LIMITS)
    address = servers.address if isinstance(servers, ClusterServers) else servers
    other = await usage_at(address, LIMITS)  # type: ignore[arg-type]
    counts = [(usage.limit.key, usage.used, usage.reserved) for usage in own]
    assert counts == [(usage.limit.key, usage.used, usage.reserved) for usage in other]
    assert [count[1:] for count in counts] == [(3, None), (2, None), (47, 40), (5, None)]


async def test_foreign_values_count_as_unused_and_stay(own_redis: RedisServer) -> None:
    for limit in LIMITS[:3]:
        await run_command(own_redis.address, "SET", limit.key, "x")
    await run_command(own_redis.address, "SET", f"{LIMITS[2].key}:held", "x")
    assert [(usage.used, usage.reset_s) for usage in await usage_at(own_redis.address, LIMITS)] == [(0, 0.0)] * 4
    assert await run_command(own_redis.address, "GET", LIMITS[0].key) == b"x"


def test_the_script_writes_nothing() -> None:
    assert [name for name in ("SET", "HSET", "HDEL", "DEL", "ZADD", "PEXPIRE", "HINCRBY") if f"'{name}'" in _body()] == []


def _body() -> str:
    """Return the part of the script that runs, without the functions that it shares with others."""
    return READ_USAGE.partition("local reply")[2]


async def test_a_store_without_an_answer_is_an_error(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address)
    own_redis.kill()
    for asked in (usage_at(own_redis.address, LIMITS), limiter.usage(LIMITS)):
        with pytest.raises(StoreUnavailableError):
            await asked

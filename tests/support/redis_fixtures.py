"""Fixtures of real Redis servers and of every kind of limiter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Limiter
from gateway.store.memory import MemoryLimiter
from gateway.store.redis import RedisLimiter
from gateway.store.resp import connect
from tests.support.redis import RedisServer, redis_from_environment
from tests.support.redis_topologies import ClusterServers, SentinelServers, run_command, serve_until_done

DECISION_TIMEOUT_S = 20.0
"""Timeout of one decision, long enough for a busy machine."""

LimiterStarter = Callable[..., Awaitable[RedisLimiter]]


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisAddress]:
    """Return a Redis for the whole test run."""
    named = redis_from_environment()
    if named is not None:
        yield named
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.address
    server.kill()


@pytest.fixture
async def redis(shared_redis: RedisAddress) -> RedisAddress:
    """Return the shared Redis, emptied."""
    connection = await connect(shared_redis, lambda: None)
    await connection.execute("FLUSHALL")
    connection.abort()
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a Redis server that the test may kill."""
    server = RedisServer(tmp_path_factory.mktemp("own"))
    yield server
    server.thaw()
    server.kill()


@pytest.fixture
async def start() -> AsyncIterator[LimiterStarter]:
    """Return a function that starts Redis limiters. They are stopped after the test."""
    running: list[RedisLimiter] = []

    async def start_limiter(
        address: RedisAddress, reports: list[str] | None = None, *, deadline: float = DECISION_TIMEOUT_S, lease: float = 30.0
    ) -> RedisLimiter:
        limiter = RedisLimiter(address, ([] if reports is None else reports).append, timeout_s=deadline, lease_s=lease)
        running.append(limiter)
        await limiter.start()
        return limiter

    yield start_limiter
    for limiter in running:
        await limiter.stop()


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Return a cluster of three nodes for the whole test run."""
    yield from serve_until_done(ClusterServers(tmp_path_factory.mktemp("cluster")))


@pytest.fixture(scope="session")
def shared_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelServers]:
    """Return a master, its replica and a Sentinel for the whole test run."""
    yield from serve_until_done(SentinelServers(tmp_path_factory.mktemp("sentinel")))


@pytest.fixture(params=["memory", "redis", "sentinel", "cluster"])
def servers(request: pytest.FixtureRequest) -> RedisAddress | ClusterServers | SentinelServers | None:
    """Return the servers of each kind of store. Return None for memory."""
    return None if request.param == "memory" else request.getfixturevalue(f"shared_{request.param}")


@pytest.fixture
async def limiter(servers: RedisAddress | ClusterServers | SentinelServers | None, start: LimiterStarter) -> Limiter:
    """Return a limiter with an empty store of each kind."""
    if servers is None:
        return MemoryLimiter()
    if isinstance(servers, RedisAddress):
        await run_command(servers, "FLUSHALL")
        return await start(servers)
    await servers.empty()
    return await start(servers.address)

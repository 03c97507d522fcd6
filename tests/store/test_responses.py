"""Properties of every store of responses: owners, expiry, and the limit on their size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.redis_responses import RedisResponses
from gateway.store.responses import OVERHEAD_BYTES, Bounds, MemoryResponses, ResponseStore
from tests.support.redis_topologies import ClusterServers, SentinelServers, run_command

ROOMY = Bounds(60.0, 1 << 20)


def silent(line: str, is_failure: bool) -> None:
    """Fail for every report: no server of these tests fails."""
    raise AssertionError(line)


@pytest.fixture
async def responses(servers: RedisAddress | ClusterServers | SentinelServers | None) -> AsyncIterator[ResponseStore]:
    """Return an empty store of each kind."""
    if servers is None:
        yield MemoryResponses()
        return
    address = servers if isinstance(servers, RedisAddress) else servers.address
    if isinstance(servers, RedisAddress):
        await run_command(servers, "FLUSHALL")
    else:
        await servers.empty()
    store = RedisResponses(address, silent)
    yield store
    await store.close()


async def test_record_is_read_and_deleted_by_its_owner_only(responses: ResponseStore) -> None:
    await responses.check()
    await responses.save("a", "r1", b"\x00\xff one", ROOMY)
    assert await responses.load("a", "r1") == b"\x00\xff one"
    assert [await responses.load(*other) for other in (("b", "r1"), ("", "r1"), ("a", "r2"))] == [None] * 3
    assert not await responses.delete("b", "r1")
    assert await responses.load("a", "r1") is not None
    assert [await responses.delete("a", "r1"), await responses.delete("a", "r1")] == [True, False]
    assert await responses.load("a", "r1") is None


async def test_oldest_records_make_room(responses: ResponseStore) -> None:
    record = b"x" * 1000
    bounds = Bounds(60.0, 3 * (len(record) + OVERHEAD_BYTES))
    for number in range(5):
        await responses.save("a", f"r{number}", record, bounds)
        await asyncio.sleep(0.002)  # Redis orders them by the millisecond
    kept = [number for number in range(5) if await responses.load("a", f"r{number}") is not None]
    assert kept == [2, 3, 4]
    await responses.delete("a", "r3")
    await responses.save("b", "new", record, bounds)
    assert await responses.load("a", "r2") is not None


async def test_replaced_record_is_counted_once(responses: ResponseStore) -> None:
    bounds = Bounds(60.0, 2 * (1000 + OVERHEAD_BYTES))
    await responses.save("a", "other", b"x" * 1000, bounds)
    for _ in range(5):
        await responses.save("a", "same", b"y" * 1000, bounds)
    assert await responses.load("a", "other") is not None
    assert await responses.load("a", "same") == b"y" * 1000


async def test_expired_record_is_unknown_and_takes_no_room(responses: ResponseStore) -> None:
    bounds = Bounds(0.02, 2 * (1000 + OVERHEAD_BYTES))
    await responses.save("a", "short", b"x" * 1000, bounds)
    await asyncio.sleep(0.05)
    assert await responses.load("a", "short") is None
    assert not await responses.delete("a", "short")
    for name in ("one", "two"):
        await responses.save("a", name, b"x" * 1000, bounds._replace(ttl_s=60.0))
    assert [await responses.load("a", name) is not None for name in ("one", "two")] == [True, True]


async def test_memory_is_released_after_expiry() -> None:
    now = [0.0]
    store = MemoryResponses(lambda: now[0])
    await store.save("a", "r", b"x", Bounds(10.0, 1000))
    now[0] = 9.9
    assert await store.load("a", "r") == b"x"
    now[0] = 10.0
    assert await store.load("a", "r") is None

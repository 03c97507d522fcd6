"""Responses in Redis: failures are reported once, waiting is bounded, and the rights in the documentation suffice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.redis_address import RedisAddress, read_address
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_responses import INDEX, PAUSE_AFTER_FAILURE_S, SIZES, TAG, RedisResponses
from gateway.store.responses import Bounds
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command

BOUNDS = Bounds(60.0, 1 << 20)
STORES = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()


async def test_failure_and_recovery_are_reported_once(own_redis: RedisServer) -> None:
    reports: list[tuple[str, bool]] = []
    now = [0.0]
    store = RedisResponses(own_redis.address, lambda line, failed: reports.append((line, failed)), lambda: now[0])
    await store.save("a", "r", b"x", BOUNDS)
    own_redis.kill()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.load("a", "r")
        now[0] += PAUSE_AFTER_FAILURE_S
    own_redis.start()
    assert await store.load("a", "r") is None
    assert [failed for _, failed in reports[-2:]] == [True, False]
    assert {failed for _, failed in reports[:-1]} == {True}
    await store.close()


async def test_dead_server_is_not_tried_by_every_call(own_redis: RedisServer) -> None:
    now = [0.0]
    store = RedisResponses(own_redis.address, lambda line, failed: None, lambda: now[0])
    own_redis.kill()
    with pytest.raises(StoreUnavailableError):
        await store.check()
    own_redis.start()
    with pytest.raises(StoreUnavailableError):
        await store.check()
    now[0] = PAUSE_AFTER_FAILURE_S
    await store.check()
    await store.close()


async def test_full_redis_is_a_failure_that_loses_nothing(own_redis: RedisServer) -> None:
    store = RedisResponses(own_redis.address, lambda line, failed: None)
    await store.save("a", "old", b"x", BOUNDS)
    await run_command(own_redis.address, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreUnavailableError):
        await store.save("a", "new", b"x", BOUNDS)
    assert await store.load("a", "old") == b"x"
    await store.close()


async def test_documented_rights_suffice(redis: RedisAddress, shared_redis: RedisAddress) -> None:
    documented = re.search(r"user gateway (on >PASSWORD [^`]*)```", STORES)
    assert documented is not None
    rights = documented[1].replace(">PASSWORD", ">secret").split()
    await run_command(redis, "ACL", "SETUSER", "gateway", *rights)
    host = redis.path or redis.host
    url = f"unix://gateway:secret@{host}" if redis.path else f"redis://gateway:secret@{redis.host}:{redis.port}/0"
    try:
        address = read_address(url)
    except ValueError:
        pytest.fail(f"no address: {url}")
    failures: list[str] = []
    store = RedisResponses(address, lambda line, failed: failures.append(line))
    await store.check()
    await store.save("a", "r", b"x", BOUNDS)
    assert await store.load("a", "r") == b"x"
    assert await store.delete("a", "r")
    assert failures == []
    await store.close()
    await run_command(redis, "ACL", "DELUSER", "gateway")


async def test_index_and_sizes_hold_no_deleted_record(redis: RedisAddress) -> None:
    store = RedisResponses(redis, lambda line, failed: None)
    await store.save("a", "r", b"x", BOUNDS)
    await store.delete("a", "r")
    assert await run_command(redis, "ZCARD", INDEX) == 0
    assert await run_command(redis, "HGETALL", SIZES) == [b"total", b"0"]
    await store.close()


@pytest.mark.parametrize("key", [INDEX, SIZES, f"lockgate:{{{TAG}}}:kept:a:r"])
@pytest.mark.parametrize("rubbish", ["SET", "RPUSH"])
async def test_keys_of_another_type_are_rebuilt(redis: RedisAddress, key: str, rubbish: str) -> None:
    reports: list[str] = []
    store = RedisResponses(redis, lambda line, failed: reports.append(line))
    await store.save("a", "before", b"x", BOUNDS)
    await run_command(redis, "DEL", key)
    await run_command(redis, rubbish, key, "x")
    if (key, rubbish) != (f"lockgate:{{{TAG}}}:kept:a:r", "SET"):  # this one has the type of a record
        assert await store.load("a", "r") is None
    await store.save("a", "r", b"y", BOUNDS)
    assert [await store.load("a", id) for id in ("before", "r")] == [b"x", b"y"]
    assert (await run_command(redis, "TYPE", INDEX), await run_command(redis, "TYPE", SIZES)) == (b"zset", b"hash")
    assert await store.delete("a", "r")
    assert reports == []
    await store.close()

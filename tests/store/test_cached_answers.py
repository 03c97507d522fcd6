"""The store of cached answers in memory: the most recently used answers stay.

The Redis store is that of responses, which has tests of its own; here, only its use for answers is tested.
"""

from __future__ import annotations

from gateway.config.redis_address import RedisAddress
from gateway.config.secret import Url
from gateway.config.types import Config
from gateway.store.cached_answers import TAG, MemoryAnswers, answer_store
from gateway.store.redis_responses import RedisResponses
from gateway.store.responses import OVERHEAD_BYTES, Bounds
from tests.support.redis_topologies import run_command

RECORD = b"x" * 1000
THREE = Bounds(60.0, 3 * (len(RECORD) + OVERHEAD_BYTES))


async def test_answers_that_were_not_used_for_the_longest_time_make_room() -> None:
    store = MemoryAnswers()
    for name in ("a", "b", "c"):
        await store.save("", name, RECORD, THREE)
    assert await store.load("", "a") == RECORD
    await store.save("", "d", RECORD, THREE)
    assert [name for name in "abcd" if await store.load("", name) is not None] == ["a", "c", "d"]


async def test_answer_expires() -> None:
    now = 0.0
    store = MemoryAnswers(lambda: now)
    await store.save("", "a", RECORD, THREE)
    now = 60.0
    assert await store.load("", "a") is None


def test_store_follows_the_configuration() -> None:
    assert isinstance(answer_store(Config(), print), MemoryAnswers)


async def test_redis_holds_answers_under_a_tag_of_their_own(redis: RedisAddress) -> None:
    lines: list[str] = []
    url = f"unix://{redis.path}" if redis.path else f"redis://{redis.host}:{redis.port}"
    store = answer_store(Config(store=Url(url)), lambda line, _: lines.append(line))
    assert isinstance(store, RedisResponses)
    await store.save("", "a", RECORD, THREE)
    assert await store.load("", "a") == RECORD
    keys = await run_command(redis, "KEYS", "*")
    assert keys
    assert all(f"{{{TAG}}}".encode() in key for key in keys)
    await store.close()
    assert lines == []

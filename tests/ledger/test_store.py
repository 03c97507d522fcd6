"""Publishing usage to Redis, and reading it back."""

from __future__ import annotations

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow, merge_copies
from gateway.ledger.store import MAX_ROWS_PER_COMMAND, UsagePublisher, read_usage
from gateway.store.connections import RedisConnections
from gateway.store.errors import StoreUnavailableError
from tests.flows.live import eventually
from tests.support.redis import RedisServer, free_port

DAYS = ["2026-11-20", "2026-11-21"]


async def test_published_rows_are_read_back_and_repeats_change_nothing(own_redis: RedisServer) -> None:
    connections = RedisConnections(own_redis.address, lambda up: None, lambda line: None, 10.0)
    await connections.start()
    expected = {}
    for incarnation in ("one", "two"):
        counters = UsageCounters(incarnation)
        publisher = UsagePublisher(connections.run, counters)
        for index in range(MAX_ROWS_PER_COMMAND + 5):
            for day in DAYS:
                row = UsageRow(day, f"key {index}", "", "m", "up/m", "a,b" if index % 2 else "")
                counters.add(row, UsageCounts(requests=1, cost=index))
                expected[row] = UsageCounts(requests=2, cost=2 * index)
        for everything in (False, True, False):
            publisher.publish(everything)
            await eventually(lambda publisher=publisher: not publisher._publishing)  # type: ignore[misc]
    assert merge_copies(await read_usage(own_redis.address, DAYS)) == expected
    await connections.stop()


async def test_rows_without_a_reply_are_published_again() -> None:
    counters = UsageCounters("one")
    row = UsageRow(DAYS[0], "k", "", "m", "up/m")
    counters.add(row, UsageCounts(requests=1))
    publisher = UsagePublisher(lambda script, keys, arguments, on_reply: on_reply(ConnectionError()), counters)
    publisher.publish()
    assert counters.unpublished == {row}


async def test_an_unavailable_store_is_an_error() -> None:
    with pytest.raises(StoreUnavailableError):
        await read_usage(RedisAddress(port=free_port()), DAYS)

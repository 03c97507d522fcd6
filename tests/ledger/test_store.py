"""Publishing usage to Redis, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks.ports import free_port
from gateway.config.redis_address import RedisAddress
from gateway.ledger.counters import UsageCounters, UsageCounts, UsageRow, merge_copies
from gateway.ledger.store import MAX_ROWS_PER_COMMAND, TTL_MS, UsagePublisher, _copy, day_key, read_usage
from gateway.store.connections import RedisConnections
from gateway.store.errors import StoreUnavailableError
from tests.flows.live import eventually
from tests.support.each import each
from tests.support.redis import RedisServer

DAYS = ["2026-11-20", "2026-11-21"]


class Commands:
    """The commands that a publisher sends; `reply` answers the oldest one without an answer."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[Any]]] = []
        self._waiting: list[Callable[[Any], None]] = []

    def run(self, script: Any, keys: Sequence[str], arguments: list[Any], on_reply: Callable[[Any], None]) -> None:
        self.sent.append((keys[0], arguments))
        self._waiting.append(on_reply)

    def reply(self, answer: Any = 1) -> None:
        self._waiting.pop(0)(answer)

    def rows(self) -> list[tuple[str, int]]:
        """Return the day and the number of rows of each command."""
        return [(key, len(arguments) // 2) for key, arguments in self.sent]


def row_of(day: str, number: int = 0) -> UsageRow:
    """Return a row of a day."""
    return UsageRow(day, f"key {number}", "", "m", "up/m")


def test_a_command_has_the_rows_of_one_day_and_each_incarnation() -> None:
    counters, commands = UsageCounters("one"), Commands()
    publisher = UsagePublisher(commands.run, counters)
    publisher.publish()
    assert commands.sent == []
    counters.add(row_of(DAYS[0]), UsageCounts(1, cost=5))
    counters.merge_copy("dead", row_of(DAYS[0]), UsageCounts(2))
    publisher.publish()
    ((key, arguments),) = commands.sent
    assert (key, arguments[0]) == (day_key(DAYS[0]), TTL_MS) == ("lockgate:{ledger}:usage:2026-11-20", 401 * 86_400_000)
    sent = {json.loads(field)[0]: (json.loads(field)[1:], value) for field, value in zip(arguments[1::2], arguments[2::2], strict=True)}
    names = ["key 0", "", "m", "up/m"]
    assert sent == {"one": (names, "1,0,0,0,0,5,0,0,0"), "dead": (names, "2,0,0,0,0,0,0,0,0")}
    assert counters.unpublished == set()


def test_one_command_at_a_time_has_at_most_the_maximum_of_rows() -> None:
    counters, commands = UsageCounters("one"), Commands()
    publisher = UsagePublisher(commands.run, counters)
    for number in range(MAX_ROWS_PER_COMMAND + 1):
        counters.add(row_of(DAYS[0], number), UsageCounts(1))
    publisher.publish()
    counters.add(row_of(DAYS[0], 999), UsageCounts(1))
    publisher.publish()  # waits for the reply
    assert commands.rows() == [(day_key(DAYS[0]), MAX_ROWS_PER_COMMAND)]
    commands.reply()
    assert commands.rows()[1:] == [(day_key(DAYS[0]), 2)]
    commands.reply()
    publisher.publish()
    assert len(commands.sent) == 2
    counters.add(row_of(DAYS[0], 1), UsageCounts(1))
    publisher.publish()
    assert commands.rows()[2:] == [(day_key(DAYS[0]), 1)]


def test_all_rows_are_published_day_by_day() -> None:
    counters, commands = UsageCounters("one"), Commands()
    publisher = UsagePublisher(commands.run, counters)
    for number in range(3):
        for day in DAYS:
            counters.add(row_of(day, number), UsageCounts(1))
            counters.merge_copy("dead", row_of(day, number), UsageCounts(1))
    publisher.publish(everything=True)
    assert counters.unpublished == set()
    commands.reply()
    assert commands.rows() == [(day_key(DAYS[1]), 6), (day_key(DAYS[0]), 6)]
    commands.reply()
    publisher.publish()
    assert len(commands.sent) == 2


def test_all_rows_of_a_failed_publication_are_published_again_later() -> None:
    counters, commands = UsageCounters("one"), Commands()
    publisher = UsagePublisher(commands.run, counters)
    for number in range(MAX_ROWS_PER_COMMAND + 3):
        counters.add(row_of(DAYS[0], number), UsageCounts(1))
    changed = set(counters.unpublished)
    publisher.publish()
    commands.reply(ConnectionError())
    assert (len(commands.sent), counters.unpublished) == (1, changed)
    publisher.publish()
    commands.reply()
    assert commands.rows()[1:] == [(day_key(DAYS[0]), MAX_ROWS_PER_COMMAND), (day_key(DAYS[0]), 3)]


@each(
    ("field", "value", "row"),
    [
        (b'["one","k","t","m","up/m"]', b"1,2", ("one", UsageRow(DAYS[0], "k", "t", "m", "up/m"), UsageCounts(1, 2))),
        (b'["one","k","t","m","up/m","a,b"]', b"3", ("one", UsageRow(DAYS[0], "k", "t", "m", "up/m", "a,b"), UsageCounts(3))),
        (b"[]", b"1", None),
        (b'["one","k"]', b"1", None),
        (b"{", b"1", None),
        (b'["one","k","t","m","up/m"]', b"1,x", None),
        (b'["one","k","t","m","up/m"]', b"1,1,1,1,1,1,1,1,1,1", None),
    ],
)
def test_a_field_that_is_not_a_row_is_ignored(field: bytes, value: bytes, row: Any) -> None:
    assert _copy(DAYS[0], field, value) == row


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

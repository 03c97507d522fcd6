"""The ledger in Redis: one hash per day with one field per row and incarnation. Publishing twice changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.config.redis_address import RedisAddress
from gateway.ledger.counters import KEPT_DAYS, UsageCounters, UsageCounts, UsageRow
from gateway.ledger.records import RowCopy
from gateway.store.errors import StoreUnavailableError
from gateway.store.members import RunScript
from gateway.store.redis_client import open_client
from gateway.store.scripts import BOOK_USAGE

MAX_ROWS_PER_COMMAND = 50
"""Maximum number of rows in one command, so that the command completes within the timeout of the store."""
PAGE_SIZE = 500
TTL_MS = (KEPT_DAYS + 1) * 86_400_000


_encode = msgspec.json.Encoder().encode
_decode_field = msgspec.json.Decoder(list[str]).decode


class UsagePublisher:
    """Publishes the counters of this process to Redis."""

    def __init__(self, run: RunScript, counters: UsageCounters) -> None:
        self._run = run
        self._counters = counters
        self._pending: list[UsageRow] = []
        self._publishing = False

    def publish(self, everything: bool = False) -> None:
        """Publish the changed rows; with `everything`, publish all rows, for a store that may have lost data."""
        counters = self._counters
        if everything:
            self._pending = sorted({row for _, row, _ in counters.all_copies()}, key=lambda row: row.day)
            counters.unpublished.clear()
        elif counters.unpublished:
            self._pending += counters.unpublished
            counters.unpublished.clear()
        if self._pending and not self._publishing:
            self._publish_next()

    def _publish_next(self) -> None:
        """Publish the next batch, whose rows all belong to one day."""
        day = self._pending[-1].day
        rows: list[UsageRow] = []
        while self._pending and len(rows) < MAX_ROWS_PER_COMMAND and self._pending[-1].day == day:
            rows.append(self._pending.pop())
        arguments: list[Any] = [TTL_MS]
        for row in rows:
            for incarnation, numbers in self._counters.copies_of(row):
                arguments += (_encode((incarnation, *row.names()[1:])), ",".join(map(str, numbers)))
        self._publishing = True
        self._run(BOOK_USAGE, [day_key(day)], arguments, lambda reply: self._on_reply(rows, reply))

    def _on_reply(self, rows: list[UsageRow], reply: Any) -> None:
        self._publishing = False
        if isinstance(reply, Exception):
            self._counters.unpublished.update(rows, self._pending)
            self._pending.clear()
        elif self._pending:
            self._publish_next()


async def read_usage(address: RedisAddress, days: Sequence[str]) -> list[RowCopy]:
    """Read the rows of these days: one copy for each incarnation that has counts. Raise StoreUnavailableError if the store fails."""
    from redis.exceptions import RedisError

    copies: list[RowCopy] = []
    client = open_client(address, "ledger")
    try:
        for day in days:
            async for field, value in client.hscan_iter(day_key(day), count=PAGE_SIZE):
                copy = _copy(day, field, value)
                if copy is not None:
                    copies.append(copy)
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(str(error)) from None
    finally:
        await client.aclose()
    return copies


def day_key(day: str) -> str:
    """Return the Redis key of the hash with the rows of a day."""
    return f"lockgate:{{ledger}}:usage:{day}"


def _copy(day: str, field: bytes, value: bytes) -> RowCopy | None:
    """Parse a field of a day. Return None if it is not a row."""
    try:
        incarnation, *names = _decode_field(field)
        return incarnation, UsageRow(day, *names), UsageCounts(*map(int, value.split(b",")))
    except (msgspec.DecodeError, ValueError, TypeError):
        return None

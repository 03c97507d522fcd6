"""The ledger in the shared store: a hash for each day, in it a field for each incarnation's row. Told again it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.config.redis_address import RedisAddress
from gateway.ledger.counters import KEPT_DAYS, UsageCounters, UsageCounts, UsageRow
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_client import open_client
from gateway.store.scripts import BOOK_USAGE

MAX_ROWS_PER_COMMAND = 50
"""Rows in one command: each has to be done within the store's deadline."""
PAGE_SIZE = 500
TTL_MS = (KEPT_DAYS + 1) * 86_400_000

Run = Callable[[str, Sequence[str], Sequence[Any], Callable[[Any], Any]], None]
"""Runs a script: its text, keys, arguments, and who gets the reply."""
Copy = tuple[str, UsageRow, UsageCounts]

_encode = msgspec.json.Encoder().encode
_decode_field = msgspec.json.Decoder(tuple[str, str, str, str, str]).decode


class UsagePublisher:
    """Tells the store what this process booked."""

    def __init__(self, run: Run, counters: UsageCounters) -> None:
        self._run = run
        self._counters = counters
        self._pending: list[UsageRow] = []
        self._publishing = False

    def publish(self, everything: bool = False) -> None:
        """Tell the store what changed; `everything` that is known when it may have forgotten."""
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
        """The latest rows first, all of one day."""
        day = self._pending[-1].day
        rows: list[UsageRow] = []
        while self._pending and len(rows) < MAX_ROWS_PER_COMMAND and self._pending[-1].day == day:
            rows.append(self._pending.pop())
        arguments: list[Any] = [TTL_MS]
        for row in rows:
            for incarnation, numbers in self._counters.copies_of(row):
                arguments += (_encode((incarnation, *row[1:])), ",".join(map(str, numbers)))
        self._publishing = True
        self._run(BOOK_USAGE, [day_key(day)], arguments, lambda reply: self._on_reply(rows, reply))

    def _on_reply(self, rows: list[UsageRow], reply: Any) -> None:
        self._publishing = False
        if isinstance(reply, Exception):
            self._counters.unpublished.update(rows, self._pending)
            self._pending.clear()
        elif self._pending:
            self._publish_next()


async def read_usage(address: RedisAddress, days: Sequence[str]) -> list[Copy]:
    """Every incarnation's rows of these days. StoreUnavailableError when they cannot be had."""
    from redis.exceptions import RedisError

    found: list[Copy] = []
    client = open_client(address, "ledger")
    try:
        for day in days:
            async for field, value in client.hscan_iter(day_key(day), count=PAGE_SIZE):
                copy = _copy(day, field, value)
                if copy is not None:
                    found.append(copy)
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(str(error)) from None
    finally:
        await client.aclose()
    return found


def day_key(day: str) -> str:
    """A day's hash."""
    return f"lockgate:{{ledger}}:usage:{day}"


def _copy(day: str, field: bytes, value: bytes) -> Copy | None:
    """A field as a row; None when it is none of ours."""
    try:
        incarnation, *names = _decode_field(field)
        numbers = UsageCounts(*map(int, value.split(b",")))
    except (msgspec.DecodeError, ValueError, TypeError):
        return None
    return incarnation, UsageRow(day, *names), numbers

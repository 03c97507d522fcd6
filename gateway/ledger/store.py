"""The ledger in the shared store: a hash for each day, in it a field for each incarnation's row. Told again it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.config.redis_address import RedisAddress
from gateway.ledger.counters import KEPT_DAYS, Counters, Numbers, Row
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_client import open_client
from gateway.store.scripts import BOOK

AT_ONCE = 50
"""Rows in one command: each has to be done within the store's deadline."""
PAGE_SIZE = 500
TTL = (KEPT_DAYS + 1) * 86_400_000

Run = Callable[[str, Sequence[str], Sequence[Any], Callable[[Any], Any]], None]
"""Runs a script: its text, keys, arguments, and who gets the reply."""
Copy = tuple[str, Row, Numbers]

_encode = msgspec.json.Encoder().encode
_decode_field = msgspec.json.Decoder(tuple[str, str, str, str, str]).decode


class UsageStore:
    """Tells the store what this process booked."""

    def __init__(self, run: Run, counters: Counters) -> None:
        self._run = run
        self._counters = counters
        self._waiting: list[Row] = []
        self._telling = False

    def tell(self, everything: bool = False) -> None:
        """Tell the store what changed; `everything` that is known when it may have forgotten."""
        counters = self._counters
        if everything:
            self._waiting = sorted({row for _, row, _ in counters.all()}, key=lambda row: row.day)
            counters.unsaid.clear()
        elif counters.unsaid:
            self._waiting += counters.unsaid
            counters.unsaid.clear()
        if self._waiting and not self._telling:
            self._tell_next()

    def _tell_next(self) -> None:
        """The latest rows first, all of one day."""
        day = self._waiting[-1].day
        rows: list[Row] = []
        while self._waiting and len(rows) < AT_ONCE and self._waiting[-1].day == day:
            rows.append(self._waiting.pop())
        arguments: list[Any] = [TTL]
        for row in rows:
            for incarnation, numbers in self._counters.copies(row):
                arguments += (_encode((incarnation, *row[1:])), ",".join(map(str, numbers)))
        self._telling = True
        self._run(BOOK, [key_of(day)], arguments, lambda reply: self._told(rows, reply))

    def _told(self, rows: list[Row], reply: Any) -> None:
        self._telling = False
        if isinstance(reply, Exception):
            self._counters.unsaid.update(rows, self._waiting)
            self._waiting.clear()
        elif self._waiting:
            self._tell_next()


async def read(address: RedisAddress, days: Sequence[str]) -> list[Copy]:
    """Every incarnation's rows of these days. StoreUnavailableError when they cannot be had."""
    from redis.exceptions import RedisError

    found: list[Copy] = []
    client = open_client(address, "ledger")
    try:
        for day in days:
            async for field, value in client.hscan_iter(key_of(day), count=PAGE_SIZE):
                copy = _copy(day, field, value)
                if copy is not None:
                    found.append(copy)
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(str(error)) from None
    finally:
        await client.aclose()
    return found


def key_of(day: str) -> str:
    """A day's hash."""
    return f"lockgate:{{ledger}}:usage:{day}"


def _copy(day: str, field: bytes, value: bytes) -> Copy | None:
    """A field as a row; None when it is none of ours."""
    try:
        incarnation, *names = _decode_field(field)
        numbers = Numbers(*map(int, value.split(b",")))
    except (msgspec.DecodeError, ValueError, TypeError):
        return None
    return incarnation, Row(day, *names), numbers

"""A local copy, for queries, of the call records in Redis.

The copy is an SQLite file with the schema of `gateway.telemetry.record_file`. Each query first reads the records that are
new in the stream, and deletes those that are no longer in it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from gateway.config.redis_address import RedisAddress
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_client import open_client
from gateway.telemetry.record_file import INSERT, SCHEMA, row_of
from gateway.telemetry.record_stream import CONTENT_OWNER, FIELD, STREAM, TAG, contents_at

COPY_NAME = "calls-shared-1.db"
BATCH = 500
_SEQUENCE_BITS = 20


class RecordCopy:
    """The copy of the call records that one process keeps. Threads may use it at the same time."""

    def __init__(self, address: RedisAddress, path: Path) -> None:
        self._address = address
        self.path = path
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Update the copy. Raise StoreUnavailableError if Redis fails, and OSError or sqlite3.Error if the file cannot be written."""
        with self._lock:
            try:
                self._copy_new()
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # a subclass is another error, such as a full disk
                    raise
                self.path.unlink()  # the copy is damaged: make it again
                self._copy_new()

    def content(self, id: str) -> Raw | None:
        """Return the captured content of the call with this request id, or None. Raise StoreUnavailableError if Redis fails."""

        async def load() -> bytes | None:
            contents = contents_at(self._address)
            try:
                return await contents.load(CONTENT_OWNER, id)
            finally:
                await contents.close()

        found = asyncio.run(load())
        return Raw(found) if found is not None else None

    def _copy_new(self) -> None:
        with closing(self._open()) as database:
            asyncio.run(self._refresh(database))

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self.path)
        database.executescript(SCHEMA)
        return database

    async def _refresh(self, database: sqlite3.Connection) -> None:
        from redis.exceptions import RedisError

        client = open_client(self._address, TAG)
        try:
            await _copy_new(client, database)
        except (RedisError, OSError, ValueError) as error:
            raise StoreUnavailableError(str(error)[:200] or type(error).__name__) from None
        finally:
            await client.aclose()


async def _copy_new(client: Any, database: sqlite3.Connection) -> None:
    """Add the records of the stream that the copy lacks, then delete from the copy the records that the stream no longer has."""
    (after,) = database.execute("SELECT coalesce(max(number), 0) FROM calls").fetchone()
    newest: list[Any] = await client.xrevrange(STREAM, count=1)
    if after and (not newest or _number(newest[0][0]) < after):  # Redis has lost records
        with database:
            database.execute("DELETE FROM calls")
        after = 0
    while entries := await client.xrange(STREAM, min=_id(after + 1), count=BATCH):
        with database:
            database.executemany(INSERT, [row for id, fields in entries if (row := _row(id, fields)) is not None])
        after = _number(entries[-1][0])
    oldest: list[Any] = await client.xrange(STREAM, count=1)
    with database:
        database.execute("DELETE FROM calls WHERE number < ?", (_number(oldest[0][0]) if oldest else after + 1,))
    database.executescript("PRAGMA incremental_vacuum;")


def _row(id: bytes, fields: dict[bytes, bytes]) -> tuple[Any, ...] | None:
    try:
        return (_number(id), *row_of(fields[FIELD]))
    except (KeyError, msgspec.MsgspecError):  # a record of another version
        return None


def _number(id: bytes) -> int:
    """Return the number of an id in the stream (`milliseconds-sequence`); later ids have greater numbers."""
    milliseconds, _, sequence = id.partition(b"-")
    return (int(milliseconds) << _SEQUENCE_BITS) + int(sequence)


def _id(number: int) -> str:
    return f"{number >> _SEQUENCE_BITS}-{number & ((1 << _SEQUENCE_BITS) - 1)}"

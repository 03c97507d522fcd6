"""The file of call records: an SQLite database that the workers of a gateway share.

A record is the call's log line. Beside the record, a row has the columns by which `GET /admin/calls` selects and sorts.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.store.responses import OVERHEAD_BYTES, Bounds
from gateway.telemetry.call_content import CallContent, stored_content

FILE_NAME = "calls-1.db"
"""The number is that of the schema: a version with another schema begins another file."""
LOCK_TIMEOUT_S = 5.0
OPEN_TRIES = 5
OPEN_PAUSE_S = 0.1
PRUNE_INTERVAL_S = 60.0
PRUNED_SHARE = 10
"""If the file is too large, its oldest rows are deleted: one in this many of all rows at a time."""
NANO_PER_USD = 10**9
SCHEMA = """
PRAGMA page_size = 8192;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 4194304;
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY, id TEXT, client_id TEXT, ended REAL, key TEXT, team TEXT, user TEXT, model TEXT,
    targets TEXT, status INTEGER, ms REAL, cost INTEGER, unpriced INTEGER, adjusted INTEGER, line BLOB
);
CREATE INDEX IF NOT EXISTS calls_ended ON calls (ended);
CREATE INDEX IF NOT EXISTS calls_id ON calls (id);
CREATE INDEX IF NOT EXISTS calls_client_id ON calls (client_id) WHERE client_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS contents (number INTEGER PRIMARY KEY, id TEXT, written REAL, size INTEGER, content BLOB);
CREATE INDEX IF NOT EXISTS contents_id ON contents (id);
CREATE INDEX IF NOT EXISTS contents_written ON contents (written, size);
"""
_ROW = f"(?{', ?' * 14})"
INSERT = f"INSERT OR IGNORE INTO calls VALUES {_ROW}"
"""The number comes first; None takes the next one. A row whose number exists was copied by another process."""
ROWS_PER_INSERT = 16
_INSERT_ROWS = INSERT + f", {_ROW}" * (ROWS_PER_INSERT - 1)
"""Inserts several rows: the thread waits for the interpreter after each statement, because it runs without the interpreter's lock."""
_PRUNE = [
    f"DELETE FROM {table} WHERE number <= (SELECT min(number) + (max(number) - min(number)) / ? FROM {table})"
    for table in ("calls", "contents")
]
NO_CONTENT = Bounds(0.0, 0)


class _Attempt(Struct):
    target: str


class _Line(Struct):
    """The fields of a log line that become columns."""

    id: str
    time: str
    model: str
    status: int
    ms: float
    key: str | None = None
    client_id: str | None = None
    team: str = ""
    end_user: str = ""
    attempts: list[_Attempt] = []
    cost_usd: float | UnsetType | None = UNSET
    adjustments: list[str] = []


_decode = msgspec.json.Decoder(_Line).decode


@lru_cache(16)
def _whole_seconds(time: str) -> float:
    return datetime.fromisoformat(f"{time}+00:00").timestamp()


def _seconds(time: str) -> float:
    """Return the time of a line in seconds since 1970. The lines of one second share one conversion."""
    if len(time) != len("2026-11-21T10:00:00.123+00:00"):
        return datetime.fromisoformat(time).timestamp()
    return _whole_seconds(time[:19]) + int(time[20:23]) / 1000


def row_of(line: bytes) -> tuple[Any, ...]:
    """Return the row of a log line."""
    call = _decode(line)
    attempts = call.attempts
    targets = f"\n{attempts[0].target}\n" if len(attempts) == 1 else "".join([f"\n{attempt.target}\n" for attempt in attempts])
    cost = round(call.cost_usd * NANO_PER_USD) if isinstance(call.cost_usd, float) else None
    return (
        call.id, call.client_id, _seconds(call.time), call.key, call.team, call.end_user, call.model, targets, call.status,
        call.ms, cost, 1 if call.cost_usd is None else 0, 1 if call.adjustments else 0, line.rstrip(b"\n"),
    )  # fmt: skip


class RecordFile:
    """Writes records, and deletes the oldest records when they are too old or the file is too large. Only one thread uses it."""

    waits = False
    """Lines do not wait for the file: if it cannot be written, they are dropped."""
    drops = 0
    """If a method raises an error, its caller counts the dropped lines."""

    def __init__(self, path: Path, ttl_s: float, max_bytes: int, content_bounds: Bounds = NO_CONTENT) -> None:
        self._path = path
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._content_bounds = content_bounds
        self._database: sqlite3.Connection | None = None
        self._pruned_at = 0.0

    def append(self, lines: Iterable[bytes], now: float, contents: Sequence[CallContent] = ()) -> None:
        """Add the records of log lines, and the contents of calls.

        Raise OSError or sqlite3.Error if the file cannot be written. Either all are added or none. A damaged file is moved aside, so
        that the next lines begin a new one.
        """
        try:
            database = self._open()
            with database:
                _insert(database, lines)
                self._add_contents(database, contents, now)
                if not self._pruned_at <= now < self._pruned_at + PRUNE_INTERVAL_S:
                    self._pruned_at = now
                    database.execute("DELETE FROM calls WHERE ended < ?", (now - self._ttl_s,))
                    database.execute("DELETE FROM contents WHERE written < ?", (now - self._content_bounds.ttl_s,))
            self._prune(database)
        except sqlite3.DatabaseError as error:
            self.close()
            if type(error) is sqlite3.DatabaseError:  # a subclass is another error, such as a full disk or a lock
                self._path.replace(self._path.with_suffix(".damaged"))
            raise

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its other files the same mode
            self._database = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S)
            for tries_left in reversed(range(OPEN_TRIES)):
                try:
                    self._database.executescript(SCHEMA)
                    break
                except sqlite3.OperationalError:  # the change to WAL does not wait for a lock that another worker holds
                    if not tries_left:
                        raise
                    time.sleep(OPEN_PAUSE_S)
        return self._database

    def _add_contents(self, database: sqlite3.Connection, contents: Sequence[CallContent], now: float) -> None:
        """Add contents, and delete the oldest contents until the sum of their sizes is at most the maximum."""
        stored = [(content.id, stored_content(content)) for content in contents]
        if not stored:
            return
        rows = [(id, now, len(text) + OVERHEAD_BYTES, text) for id, text in stored]
        database.executemany("INSERT INTO contents VALUES (NULL, ?, ?, ?, ?)", rows)
        (size,) = database.execute("SELECT sum(size) FROM contents").fetchone()
        while size > self._content_bounds.max_bytes:
            number, oldest = database.execute("SELECT number, size FROM contents ORDER BY number LIMIT 1").fetchone()
            database.execute("DELETE FROM contents WHERE number = ?", (number,))
            size -= oldest

    def _prune(self, database: sqlite3.Connection) -> None:
        """Delete the oldest rows until the file has at most its maximum size."""
        is_pruned = False
        while _used_bytes(database) > self._max_bytes:
            with database:
                deleted = [database.execute(statement, (PRUNED_SHARE,)).rowcount for statement in _PRUNE]
            if not any(deleted):
                break
            is_pruned = True
        if is_pruned:
            database.executescript("PRAGMA incremental_vacuum;")  # `execute` would take one step, which frees one page


def _insert(database: sqlite3.Connection, lines: Iterable[bytes]) -> None:
    """Insert the rows of log lines, in their order."""
    rows = ((None, *row_of(line)) for line in lines)
    while len(group := list(islice(rows, ROWS_PER_INSERT))) == ROWS_PER_INSERT:
        database.execute(_INSERT_ROWS, tuple(chain.from_iterable(group)))
    database.executemany(INSERT, group)


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)

"""One connection to Redis: commands out, replies in the same order to whoever sent them. No call to a model ever owns it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import msgspec

Done = Callable[[Any], None]
"""Gets a reply, a hiredis.ReplyError, or a ConnectionError."""


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a Redis is and how to log in there. `path` is a unix socket."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str = ""
    tls: bool = False
    user: str = ""
    password: str = ""
    database: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def read_address(url: str) -> RedisAddress:
    """The address of `redis://`, `rediss://` or `unix://` URLs; ValueError for what this store cannot reach."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"limits cannot be counted in {parts.scheme}:// yet: use one Redis, redis:// or rediss://")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix":
        database = parse_qs(parts.query).get("db", ["0"])[0]
        return RedisAddress(path=parts.path, user=user, password=password, database=int(database))
    database = parts.path.strip("/") or "0"
    if not database.isdigit():
        raise ValueError("a Redis URL ends in the number of a database, for example /0")
    return RedisAddress(parts.hostname or "", parts.port or 6379, "", parts.scheme == "rediss", user, password, int(database))


class RespConnection(asyncio.Protocol):
    """Pipelined commands on one socket."""

    def __init__(self, lost: Callable[[], None]) -> None:
        """`lost` is called once when the connection ends."""
        self._lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Done] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        """Hand each whole reply to the command it answers; what is no reply ends the connection."""
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                self._waiting.popleft()(reply)
        except (hiredis.HiredisError, IndexError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Everybody who still waits is told."""
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for done in waiting:
            done(ConnectionError("the connection to Redis ended"))
        self._lost()

    def send(self, command: Sequence[Any], done: Done) -> None:
        """Write one command; `done` gets its reply."""
        if self._transport is None:
            done(ConnectionError("there is no connection to Redis"))
            return
        self._waiting.append(done)
        self._transport.write(hiredis.pack_command(tuple(command)))

    async def ask(self, *command: Any) -> Any:
        """Send one command and wait; ReplyError or ConnectionError are raised."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(reply: Any) -> None:
            if not future.done():
                future.set_result(reply)

        self.send(command, done)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def abort(self) -> None:
        """Close at once: replies that are still on their way answer nobody."""
        if self._transport is not None:
            self._transport.abort()


async def connect(address: RedisAddress, lost: Callable[[], None]) -> RespConnection:
    """Open a connection and log in; OSError, ConnectionError or ReplyError when that fails."""
    loop = asyncio.get_running_loop()
    if address.path:
        _, connection = await loop.create_unix_connection(lambda: RespConnection(lost), address.path)
    else:
        context = ssl.create_default_context() if address.tls else None
        _, connection = await loop.create_connection(lambda: RespConnection(lost), address.host, address.port, ssl=context)
    try:
        if address.password:
            await connection.ask("AUTH", *([address.user] if address.user else []), address.password)
        if address.database:
            await connection.ask("SELECT", address.database)
    except BaseException:
        connection.abort()
        raise
    return connection

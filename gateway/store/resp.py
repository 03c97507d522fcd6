"""One connection to Redis: commands out, replies in the same order to whoever sent them. No call to a model ever owns it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from gateway.config.redis_address import RedisAddress, read_address

OnReply = Callable[[Any], None]
"""Gets a reply, a hiredis.ReplyError, or a ConnectionError."""


class RespConnection(asyncio.Protocol):
    """Pipelined commands on one socket."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        """`lost` is called once when the connection ends."""
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._waiting: deque[OnReply] = deque()
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
        self._on_lost()

    def send(self, command: Sequence[Any], on_reply: OnReply) -> None:
        """Write one command; `done` gets its reply."""
        if self._transport is None:
            on_reply(ConnectionError("there is no connection to Redis"))
            return
        self._waiting.append(on_reply)
        self._transport.write(hiredis.pack_command(tuple(command)))

    async def execute(self, *command: Any) -> Any:
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


async def connect(address: RedisAddress, on_lost: Callable[[], None]) -> RespConnection:
    """Open a connection to one server and log in; OSError, ValueError or ReplyError when that fails."""
    if address.kind != "one":
        raise ValueError(f"{address} is no single server")
    loop = asyncio.get_running_loop()
    if address.path:
        _, connection = await loop.create_unix_connection(lambda: RespConnection(on_lost), address.path)
    else:
        _, connection = await loop.create_connection(lambda: RespConnection(on_lost), address.host, address.port, ssl=address.ssl_context())
    try:
        user, password = address.credentials()
        if password:
            await connection.execute("AUTH", *([user] if user else []), password)
        if address.database:
            await connection.execute("SELECT", address.database)
    except BaseException:
        connection.abort()
        raise
    return connection


__all__ = ["RedisAddress", "RespConnection", "connect", "read_address"]

"""The RESP protocol over asyncio: pipelined commands on one socket, replies in the same order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from gateway.config.redis_address import RedisAddress

OnReply = Callable[[Any], None]
"""Receives a reply, a hiredis.ReplyError or a ConnectionError."""


class RespConnection(asyncio.Protocol):
    """Pipelined commands on one socket."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        """Create a protocol. `on_lost` is called once, when the connection ends."""
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._waiting: deque[OnReply] = deque()
        self._held: list[bytes] | None = None
        """Commands to be written together, while writes are held."""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio.Transport

    def data_received(self, data: bytes) -> None:
        """Pass each complete reply to the callback of its command. Invalid data closes the connection."""
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                self._waiting.popleft()(reply)
        except (hiredis.HiredisError, IndexError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all commands in flight."""
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for on_reply in waiting:
            on_reply(ConnectionError("the connection to Redis ended"))
        self._on_lost()

    def send(self, command: Sequence[Any], on_reply: OnReply) -> None:
        """Write one command. `on_reply` receives its reply."""
        if self._transport is None:
            on_reply(ConnectionError("there is no connection to Redis"))
            return
        self._waiting.append(on_reply)
        packed = hiredis.pack_command(tuple(command))
        if self._held is None:
            self._transport.write(packed)
        else:
            self._held.append(packed)

    def hold_writes(self) -> None:
        """Keep the following commands until `write_held` writes them together. Call both without an await between them."""
        self._held = []

    def write_held(self) -> None:
        """Write the commands that were sent since `hold_writes`."""
        held, self._held = self._held, None
        if held and self._transport is not None:
            self._transport.write(b"".join(held))

    async def execute(self, *command: Any) -> Any:
        """Send one command and return its reply. Raise hiredis.ReplyError or ConnectionError if that fails."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_reply(reply: Any) -> None:
            if not future.done():
                future.set_result(reply)

        self.send(command, on_reply)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def abort(self) -> None:
        """Close at once. Commands in flight fail."""
        if self._transport is not None:
            self._transport.abort()


async def connect(address: RedisAddress, on_lost: Callable[[], None]) -> RespConnection:
    """Connect to one server and authenticate. Raise OSError, ValueError or hiredis.ReplyError if that fails."""
    if address.kind != "one":
        raise ValueError(f"{address} is not the address of a single server")
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

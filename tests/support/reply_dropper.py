"""A proxy in front of Redis that drops replies: Redis executes the commands, but their replies never arrive."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.support.listener import StreamServer


class ReplyDropper:
    """Proxy on a unix socket. While `drop` is set, it discards replies and closes the connection."""

    def __init__(self, path: Path, redis: str) -> None:
        self.path = str(path)
        self._redis = redis
        self._server: StreamServer | None = None
        self.drop = False
        self.dropped = 0

    async def __aenter__(self) -> ReplyDropper:
        self._server = StreamServer(self._serve, path=self.path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_unix_connection(self._redis)
        commands = asyncio.create_task(_pump(reader, to_redis))
        try:
            while data := await from_redis.read(65536):
                if self.drop:
                    self.dropped += 1
                    break
                writer.write(data)
        finally:
            commands.cancel()
            for connection in (writer, to_redis):
                connection.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)

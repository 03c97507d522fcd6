"""A TCP proxy on loopback that delays, splits, holds back or resets traffic, or drops replies."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct

from tests.support.listener import StreamServer


class ToxicProxy:
    """A proxy in front of a TCP port or a unix socket. A changed setting applies to traffic from then on."""

    def __init__(self, target: int | str, *, seed: int = 1, tls: ssl.SSLContext | None = None) -> None:
        """`target` is a port on 127.0.0.1 or the path of a unix socket. With `tls` the proxy terminates TLS."""
        self._target = target
        self._tls = tls
        self._draw = random.Random(seed)
        self._server: StreamServer | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.latency = 0.0
        """Delay of each piece in seconds, in both directions."""
        self.jitter = 0.0
        """Maximum additional random delay in seconds."""
        self.slice = 0
        """Maximum size of a forwarded piece in bytes. 0 means no maximum."""
        self.drop_replies = False
        """Whether replies are discarded and the connection closed, after the target has executed the request."""
        self._passable = asyncio.Event()
        self._passable.set()
        self.connections = 0

    async def __aenter__(self) -> ToxicProxy:
        self._server = StreamServer(self._serve, context=self._tls)
        self.port = self._server.port
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        await self._server.close()

    def part(self, parted: bool) -> None:
        """Start or end a network partition: no bytes pass, and connections stay open."""
        if parted:
            self._passable.clear()
        else:
            self._passable.set()

    def reset(self) -> None:
        """Reset every open connection."""
        for writer in list(self._open):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connections: list[asyncio.StreamWriter] = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            if isinstance(self._target, str):
                answers, there = await asyncio.open_unix_connection(self._target)
            else:
                answers, there = await asyncio.open_connection("127.0.0.1", self._target)
            connections.append(there)
            self._open.add(writer)
            pumps = [asyncio.create_task(self._pump(reader, there)), asyncio.create_task(self._pump(answers, writer, replies=True))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for connection in connections:
                connection.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                while data:
                    piece, data = (data[: self.slice], data[self.slice :]) if self.slice else (data, b"")
                    if self.latency or self.jitter:
                        await asyncio.sleep(self.latency + self._draw.random() * self.jitter)
                    await self._passable.wait()
                    if replies and self.drop_replies:
                        return
                    writer.write(piece)
                    await writer.drain()

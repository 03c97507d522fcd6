"""A TCP proxy on loopback that spoils what passes through it: late, in pieces, cut, or carried out and never answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct


class ToxicProxy:
    """In front of a TCP port or a unix socket. Its settings hold for what passes from now on."""

    def __init__(self, target: int | str, *, seed: int = 1, tls: ssl.SSLContext | None = None) -> None:
        """`target` is a port on 127.0.0.1 or the path of a unix socket; with `tls` those who connect speak TLS to us."""
        self._target = target
        self._tls = tls
        self._draw = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.latency = 0.0
        """Seconds that each piece is late, both ways."""
        self.jitter = 0.0
        """Up to so many seconds more, at random."""
        self.slice = 0
        """Longest piece that is passed on at once; 0 is any."""
        self.drop_replies = False
        """What the target answers is thrown away, after it was carried out, and the connection ends."""
        self._passable = asyncio.Event()
        self._passable.set()
        self.connections = 0

    async def __aenter__(self) -> ToxicProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def part(self, parted: bool) -> None:
        """A partition: nothing passes while it lasts, and nothing says so."""
        if parted:
            self._passable.clear()
        else:
            self._passable.set()

    def reset(self) -> None:
        """RST on every connection that is open."""
        for writer in list(self._open):
            one = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        ours: list[asyncio.StreamWriter] = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            if isinstance(self._target, str):
                answers, there = await asyncio.open_unix_connection(self._target)
            else:
                answers, there = await asyncio.open_connection("127.0.0.1", self._target)
            ours.append(there)
            self._open.add(writer)
            pumps = [asyncio.create_task(self._pump(reader, there)), asyncio.create_task(self._pump(answers, writer, replies=True))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the end of the proxy is the end of the connection
        finally:
            self._open.discard(writer)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in ours:
                one.transport.abort()

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

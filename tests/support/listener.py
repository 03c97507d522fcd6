"""Servers for tests that end with all their connections, on uvloop and on asyncio's loop.

`asyncio.Server` loses a connection that it has accepted in the same turn of the loop in which it closes: Python 3.11 leaves its
transport open, and the warning about it then appears in a later test.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

BACKLOG = 1024
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Accepts the connections of one listening socket."""

    def __init__(self, sock: socket.socket, factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None = None) -> None:
        """Accept from now on. `factory` returns the protocol of a connection, which gets the connection after its TLS handshake."""
        sock.setblocking(False)
        self._socket = sock
        self._factory = factory
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._connecting: dict[asyncio.Task[None], socket.socket] = {}
        self._loop.add_reader(sock, self._accept)

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and end TLS handshakes. A connection that has been made belongs to its protocol."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for sock in self._connecting.values() if self._context else ():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*self._connecting)
        await asyncio.sleep(0)  # the loop closes the transports of interrupted handshakes

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:  # as a server of an event loop does: each piece is sent at once
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._connect(sock))
            self._connecting[task] = sock
            task.add_done_callback(self._connecting.pop)

    async def _connect(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has left, or its handshake failed
            await self._loop.connect_accepted_socket(self._factory, sock, ssl=self._context)


def listen(
    factory: Callable[[], asyncio.Protocol], host: str = "127.0.0.1", port: int = 0, *, context: ssl.SSLContext | None = None
) -> Listener:
    """Listen on a TCP port, by default a free one. An IPv6 address is possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Listener(socket.create_server((host, port), family=family, backlog=BACKLOG), factory, context)


def listen_at(factory: Callable[[], asyncio.Protocol], path: str, *, context: ssl.SSLContext | None = None) -> Listener:
    """Listen on a unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(BACKLOG)
    return Listener(sock, factory, context)


class StreamServer:
    """Runs a handler for each connection of a TCP port of 127.0.0.1 or of a unix socket."""

    def __init__(
        self, handler: Handler, port: int = 0, *, path: str | None = None, context: ssl.SSLContext | None = None, limit: int = 1 << 16
    ) -> None:
        """Listen from now on. `limit` bounds the buffer of a reader, as in `asyncio.start_server`."""
        self._handler = handler
        self._limit = limit
        self._handling: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._failures: list[BaseException] = []
        if path is None:
            self._listener = listen(self._protocol, port=port, context=context)
            self.port = self._listener.port
        else:
            self._listener = listen_at(self._protocol, path, context=context)

    async def close(self) -> None:
        """Stop listening, and end all connections. Raise the first exception of a handler other than the end of a connection."""
        await self._listener.close()
        handling = dict(self._handling)
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes the transports
        if self._failures:
            raise self._failures[0]

    def _protocol(self) -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(self._limit), self._handle)

    def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._run(reader, writer))
        self._handling[task] = writer
        task.add_done_callback(self._ended)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._handler(reader, writer)

    def _ended(self, task: asyncio.Task[None]) -> None:
        writer = self._handling.pop(task)
        if task.cancelled():  # perhaps before its first step
            writer.transport.abort()
            return
        writer.close()
        error = task.exception()
        if error is not None:
            self._failures.append(error)


@asynccontextmanager
async def serve_streams(
    handler: Handler, *, path: str | None = None, context: ssl.SSLContext | None = None, limit: int = 1 << 16
) -> AsyncIterator[StreamServer]:
    """Serve connections within the block."""
    server = StreamServer(handler, path=path, context=context, limit=limit)
    try:
        yield server
    finally:
        await server.close()

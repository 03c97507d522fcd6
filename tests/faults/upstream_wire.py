"""Connections, requests and ledger of the fault upstream, and the operations of its scripts."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from tests.support.turns import sleep_in_turns

if TYPE_CHECKING:
    from tests.faults.upstream_server import FaultUpstream

Script = Callable[["Exchange"], Awaitable[None]]
"""Answers one request, whose head and body have been read (only the head if the script is `early`)."""


class Step:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


FIN: Final = Step("FIN")
"""Close the connection with a FIN."""
RST: Final = Step("RST")
"""Reset the connection with an RST. Unread bytes of both sides are lost."""
HANG: Final = Step("HANG")
"""Send nothing until the peer disconnects."""


class ConnectionGoneError(Exception):
    """The peer disconnected, or the script closed the connection."""


@dataclass
class Link:
    """One accepted connection. Times are time.monotonic()."""

    number: int
    opened: float
    closed: float | None = None
    closed_by: str | None = None
    """The side that closed the connection: `peer` or `script`."""
    requests: int = 0


@dataclass
class Request:
    """One request, and the data that was sent in response."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """Headers with lower-case names, in their order of arrival."""
    head: bytes
    link: Link
    at: float
    body: bytes = b""
    events: int = 0
    """SSE events written to the socket."""
    tokens: int = 0
    """Completion tokens written to the socket, one for each content chunk."""
    prompt_tokens: int = 0
    sent: int = 0
    """Bytes written to the socket."""
    finished: bool = False
    """Whether the script has completed."""
    left: float | None = None
    """Time at which the peer disconnected before the script had completed."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    @property
    def model(self) -> str | None:
        """Return `model` of the body. Return None if there is none."""
        match = re.search(rb'"model"\s*:\s*"([^"]*)"', self.body)
        return match[1].decode() if match else None


@dataclass
class Ledger:
    """All connections and requests of a server."""

    links: list[Link] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def open(self) -> int:
        """Return the number of open connections."""
        return sum(link.closed is None for link in self.links)

    @property
    def accepted(self) -> int:
        """Return the number of accepted connections."""
        return len(self.links)

    @property
    def tokens(self) -> int:
        """Return the completion tokens sent for all requests."""
        return sum(request.tokens for request in self.requests)

    def as_json(self) -> dict[str, Any]:
        """Return the ledger for another process."""
        return {
            "accepted": self.accepted,
            "open": self.open,
            "requests": [
                {
                    "method": request.method,
                    "path": request.path,
                    "model": request.model,
                    "connection": request.link.number,
                    "events": request.events,
                    "tokens": request.tokens,
                    "prompt_tokens": request.prompt_tokens,
                    "finished": request.finished,
                    "left": request.left,
                }
                for request in self.requests
            ],
        }


class Exchange:
    """One request in progress: the operations of a script. When the peer disconnects, the script is cancelled."""

    def __init__(self, server: FaultUpstream, wire: Wire, request: Request) -> None:
        self.server = server
        self.request = request
        self.link = request.link
        self._wire = wire

    async def send(self, data: bytes) -> None:
        """Write, then wait until the socket accepts more, so that a slow reader blocks the script."""
        await self._wire.send(data)
        self.request.sent += len(data)

    async def sleep(self, seconds: float) -> None:
        """Sleep. A disconnect of the peer ends the sleep. After a longer one, the peer has read what was sent before."""
        await (sleep_in_turns(seconds) if seconds >= 0.02 else asyncio.sleep(seconds))

    async def hang(self) -> None:
        """Send nothing until the peer disconnects."""
        await asyncio.Event().wait()

    async def read_for(self, seconds: float) -> int:
        """Read from the peer for a while, in an `early` script. Return the number of bytes received so far."""
        return await self._wire.read_for(seconds)

    def fin(self) -> None:
        """Close the connection with a FIN after the written bytes."""
        self._wire.close()
        raise ConnectionGoneError

    def shrink_send_buffer(self) -> None:
        """Make the socket's send buffer small, so that almost all written bytes have reached the peer."""
        self._wire.shrink_send_buffer()

    async def flush(self) -> None:
        """Wait until the kernel has all written bytes, so that a reset does not discard them if the peer has room for them."""
        await self._wire.flush()

    def rst(self) -> None:
        """Reset the connection with an RST now."""
        self._wire.reset()
        raise ConnectionGoneError

    async def start_stream(self, content_type: str = "text/event-stream") -> None:
        """Send the head of a chunked answer."""
        await self.send(f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked answer. An empty chunk ends the answer."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data: bytes | dict[str, Any], tokens: int = 0) -> None:
        """Send one SSE event in its own chunk and count it in the ledger."""
        await self.chunk(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n")
        self.request.events += 1
        self.request.tokens += tokens


class Wire(asyncio.Protocol):
    """Server side of one connection: reads requests and runs their scripts one after another."""

    def __init__(self, server: FaultUpstream) -> None:
        self._server = server
        self._buffer = bytearray()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self.request: Request | None = None
        self.link: Link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.link = Link(len(self._server.ledger.links), time.monotonic())
        self._server.ledger.links.append(self.link)
        self._server.wires.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()

    def eof_received(self) -> bool:
        self._record_close("peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._record_close("peer")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, data: bytes) -> None:
        if self.link.closed is not None:
            raise ConnectionGoneError
        self._transport.write(data)
        await self._writable.wait()

    async def flush(self) -> None:
        self._transport.set_write_buffer_limits(0)
        await self._writable.wait()

    async def read_for(self, seconds: float) -> int:
        self._transport.resume_reading()
        await asyncio.sleep(seconds)
        return len(self._buffer)

    def close(self) -> None:
        self._record_close("script")
        self._transport.close()

    def reset(self) -> None:
        self._record_close("script")
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def shrink_send_buffer(self) -> None:
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def _record_close(self, closed_by: str) -> None:
        if self.link.closed is not None:
            return
        self.link.closed = time.monotonic()
        self.link.closed_by = closed_by
        self._server.wires.discard(self)
        if self.request is not None and not self.request.finished and closed_by == "peer":
            self.request.left = self.link.closed
        if closed_by == "peer" and self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Cancel the script and close the connection when the server stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._transport.abort()

    async def _serve(self) -> None:
        try:
            while self.link.closed is None:
                await self._answer_next()
        except (ConnectionGoneError, asyncio.CancelledError):
            pass  # the connection is closed
        except Exception as error:
            self._server.failures.append(error)
            self._transport.abort()

    async def _answer_next(self) -> None:
        self.request = None
        request = await self._read_head()
        rule = self._server.match_early(request)
        if rule is None:
            request.body = await self._read_body(request)
            rule = self._server.match(request)
        else:
            self._transport.pause_reading()
        self.request = request
        self.link.requests += 1
        self._server.ledger.requests.append(request)
        await rule(Exchange(self._server, self, request))
        request.finished = True

    async def _read_head(self) -> Request:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._read_more()
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = [line.split(":", 1) for line in lines]
        return Request(method, path, [(name.lower(), value.strip()) for name, value in pairs], head, self.link, time.monotonic())

    async def _read_body(self, request: Request) -> bytes:
        if (request.header("transfer-encoding") or "") == "chunked":
            return await self._read_chunks()
        return await self._read_exactly(int(request.header("content-length") or 0))

    async def _read_chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                await self._read_more()
            size = int(self._buffer[:end].split(b";")[0], 16)
            del self._buffer[: end + 2]
            piece = await self._read_exactly(size + 2)
            if not size:
                return body
            body += piece[:-2]

    async def _read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._read_more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _read_more(self) -> None:
        self._more.clear()
        await self._more.wait()

"""The fault upstream's side of the wire: connections, requests, the books, and what a script may do to an exchange."""

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

if TYPE_CHECKING:
    from tests.faults.upstream_server import FaultUpstream

Script = Callable[["Exchange"], Awaitable[None]]
"""What happens to one request, head and body already read (unless it was registered as `early`)."""


class Step:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


FIN: Final = Step("FIN")
"""Close the connection in good order."""
RST: Final = Step("RST")
"""Reset the connection: unread bytes on both sides are lost."""
HANG: Final = Step("HANG")
"""Do nothing until the peer is gone."""


class Gone(Exception):
    """The peer left, or the script closed the connection."""


@dataclass
class Link:
    """One accepted connection. Times are time.monotonic()."""

    number: int
    opened: float
    closed: float | None = None
    closed_by: str | None = None
    """`peer` or `script`."""
    requests: int = 0


@dataclass
class Request:
    """One request as it arrived, and what was sent for it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """Lower-case names, in wire order."""
    head: bytes
    link: Link
    at: float
    body: bytes = b""
    events: int = 0
    """SSE events handed to the socket."""
    tokens: int = 0
    """Completion tokens handed to the socket (one per content chunk)."""
    prompt_tokens: int = 0
    sent: int = 0
    """Bytes handed to the socket."""
    finished: bool = False
    """The script ran to its end."""
    left: float | None = None
    """When the peer was seen to be gone, if that came before the end."""

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def model(self) -> str | None:
        """The body's `model`, if it is an object that has one."""
        found = re.search(rb'"model"\s*:\s*"([^"]*)"', self.body)
        return found[1].decode() if found else None


@dataclass
class Ledger:
    """The server's books: every connection, every request."""

    links: list[Link] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def open(self) -> int:
        """Connections open now."""
        return sum(link.closed is None for link in self.links)

    @property
    def accepted(self) -> int:
        """Connections ever accepted."""
        return len(self.links)

    @property
    def tokens(self) -> int:
        """Completion tokens sent over all requests."""
        return sum(request.tokens for request in self.requests)

    def as_json(self) -> dict[str, Any]:
        """The books for another process."""
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
    """One request being answered: what scripts write with. Every method raises Gone when the peer has left."""

    def __init__(self, server: FaultUpstream, wire: Wire, request: Request) -> None:
        self.server = server
        self.request = request
        self.link = request.link
        self._wire = wire

    async def send(self, data: bytes) -> None:
        """Write, and wait until the socket takes more: a slow reader blocks the script."""
        await self._wire.send(data)
        self.request.sent += len(data)

    async def sleep(self, seconds: float) -> None:
        """Pause; ends at once when the peer leaves."""
        await asyncio.sleep(seconds)

    async def hang(self) -> None:
        """Do nothing until the peer is gone."""
        await asyncio.Event().wait()

    async def read_for(self, seconds: float) -> int:
        """In an `early` script: read what the peer still sends, for a while. How many bytes came in all."""
        return await self._wire.read_for(seconds)

    def fin(self) -> None:
        """Close in good order, after what was written."""
        self._wire.close()
        raise Gone

    def hold_little(self) -> None:
        """Have the kernel keep next to nothing of what is sent: what is sent has then arrived."""
        self._wire.hold_little()

    def rst(self) -> None:
        """Reset the connection now."""
        self._wire.reset()
        raise Gone

    async def start_stream(self, content_type: str = "text/event-stream") -> None:
        """The head of a chunked answer."""
        await self.send(f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked answer; an empty one ends it."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data: bytes | dict[str, Any], tokens: int = 0) -> None:
        """One SSE event in a chunk of its own, counted in the ledger."""
        await self.chunk(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n")
        self.request.events += 1
        self.request.tokens += tokens


class Wire(asyncio.Protocol):
    """The server's side of one connection: reads requests, runs their scripts one after another."""

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
        self._leave("peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave("peer")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, data: bytes) -> None:
        if self.link.closed is not None:
            raise Gone
        self._transport.write(data)
        await self._writable.wait()

    async def read_for(self, seconds: float) -> int:
        self._transport.resume_reading()
        await asyncio.sleep(seconds)
        return len(self._buffer)

    def close(self) -> None:
        self._leave("script")
        self._transport.close()

    def reset(self) -> None:
        self._leave("script")
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def hold_little(self) -> None:
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def _leave(self, who: str) -> None:
        if self.link.closed is not None:
            return
        self.link.closed = time.monotonic()
        self.link.closed_by = who
        self._server.wires.discard(self)
        if self.request is not None and not self.request.finished and who == "peer":
            self.request.left = self.link.closed
        if who == "peer" and self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """The server goes: end the script, close the socket."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._transport.abort()

    async def _serve(self) -> None:
        try:
            while self.link.closed is None:
                await self._answer_next()
        except (Gone, asyncio.CancelledError):
            pass  # the connection is over: nobody is left to tell
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

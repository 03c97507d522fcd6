"""WebSocket peers over plain sockets: frames are written and read here, so that a test can check every byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

from tests.support.listener import serve_streams

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"0123456789abcdef")
ACCEPT = base64.b64encode(hashlib.sha1(KEY + GUID, usedforsecurity=False).digest())
READ_TIMEOUT_S = 60.0
T = TypeVar("T")


class Frame(NamedTuple):
    """One frame, unmasked."""

    opcode: int
    payload: bytes
    final: bool = True

    @property
    def code(self) -> int:
        """Return the code of a close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


def encode(opcode: int, payload: bytes = b"", *, masked: bool = False, final: bool = True) -> bytes:
    """Return the bytes of a frame."""
    size, flag = len(payload), 0x80 if masked else 0
    if size < 126:
        head = bytes((opcode | (0x80 if final else 0), flag | size))
    elif size < 1 << 16:
        head = bytes((opcode | (0x80 if final else 0), flag | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((opcode | (0x80 if final else 0), flag | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + xor(payload, mask)


def xor(payload: bytes, mask: bytes) -> bytes:
    """Return a payload masked or unmasked."""
    stream = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(payload), "big")


class Peer:
    """One end of a connection. `is_client` determines which frames are masked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.is_client = is_client
        self.head = b""
        """The head that this end received."""

    @property
    def status(self) -> int:
        """Return the status of the response that this end received."""
        return int(self.head.split(b" ")[1])

    def header(self, name: str) -> str | None:
        """Return the values of a header of the received head, joined, or None."""
        lines = [line.partition(b": ") for line in self.head.split(b"\r\n")[1:]]
        found = [value.decode("latin-1") for key, _, value in lines if key.lower() == name.encode()]
        return ", ".join(found) if found else None

    async def read_head(self) -> None:
        """Read a head."""
        self.head = await self._within(self.reader.readuntil(b"\r\n\r\n"))

    async def body(self) -> bytes:
        """Return the body of a refusal."""
        return await self._within(self.reader.readexactly(int(self.header("content-length") or 0)))

    async def send(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        """Send a frame."""
        await self.send_bytes(encode(opcode, payload, masked=self.is_client, final=final))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes, and wait until the connection accepts more."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> Frame:
        """Return the next frame. Fail if a client sent it unmasked, or a server sent it masked."""
        return await self._within(self._receive())

    async def _receive(self) -> Frame:
        first, second = await self.reader.readexactly(2)
        assert bool(second & 0x80) is not self.is_client, "wrong masking"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4) if second & 0x80 else b""
        payload = await self.reader.readexactly(size)
        return Frame(first & 0x0F, xor(payload, mask) if mask else payload, bool(first & 0x80))

    async def ended(self) -> bytes:
        """Wait until the other end sends nothing more. Return the bytes that it sent until then, or none after a reset."""
        try:
            return await self._within(self.reader.read())
        except ConnectionError:
            return b""

    async def _within(self, work: Awaitable[T]) -> T:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await work

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()

    def reset(self) -> None:
        """Reset the connection, unless it is closed."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class SocketServer:
    """A server whose connections run one script after their request heads have arrived."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.port = 0
        self.open = 0
        """Connections whose scripts run."""
        self.scheme = "http"

    @property
    def base_url(self) -> str:
        """Return the base URL for a provider."""
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the script for one connection."""
        peer = Peer(reader, writer, is_client=False)
        self.open += 1
        try:
            await peer.read_head()
            self.peers.append(peer)
            await self.script(peer)
        finally:
            self.open -= 1


async def accept(peer: Peer, *headers: bytes) -> None:
    """Accept a handshake."""
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    key = (peer.header("sec-websocket-key") or "").encode()
    value = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    await peer.send_bytes(b"\r\n".join([*lines, b"Sec-WebSocket-Accept: " + value, *headers, b"", b""]))


async def echo(peer: Peer) -> None:
    """Accept the handshake and send every frame back, a ping as a pong. End after a close frame."""
    await accept(peer)
    while True:
        frame = await peer.receive()
        await peer.send(PONG if frame.opcode == PING else frame.opcode, frame.payload, final=frame.final)
        if frame.opcode == CLOSE:
            return


@asynccontextmanager
async def socket_server(script: Script = echo, context: ssl.SSLContext | None = None) -> AsyncIterator[SocketServer]:
    """Serve connections within the block."""
    server = SocketServer(script)
    server.scheme = "https" if context is not None else "http"
    async with serve_streams(server.handle, context=context) as listening:
        server.port = listening.port
        yield server


def handshake(path: str = "/v1/realtime?model=gpt-realtime", *lines: bytes, method: bytes = b"GET") -> bytes:
    """Return a handshake."""
    start = [b"%b %b HTTP/1.1" % (method, path.encode()), b"host: localhost", b"connection: Upgrade", b"upgrade: websocket"]
    return b"\r\n".join([*start, b"sec-websocket-version: 13", b"sec-websocket-key: " + KEY, *lines, b"", b""])


@asynccontextmanager
async def connected(port: int, head: bytes | None = None, more: bytes = b"") -> AsyncIterator[Peer]:
    """Yield a client whose handshake has been answered. `more` is sent together with the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer, is_client=True)
    try:
        await peer.send_bytes((head or handshake()) + more)
        await peer.read_head()
        yield peer
    finally:
        peer.reset()


@asynccontextmanager
async def connecting(port: int) -> AsyncIterator[Peer]:
    """Yield a client that has sent its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer, is_client=True)
    try:
        await peer.send_bytes(handshake())
        yield peer
    finally:
        peer.reset()

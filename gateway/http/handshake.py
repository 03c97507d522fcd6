"""WebSocket handshakes of callers: their checks, and the connection between handshake and answer."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Callable, Sequence
from typing import Any, cast

from gateway.http.cycle import RequestCycle

Headers = Sequence[tuple[bytes, bytes]]

MAX_EARLY_BYTES = 64 << 10
"""When a caller has sent more bytes than this before its handshake is accepted, its socket is not read until then."""
_ONCE = (b"upgrade", b"sec-websocket-key", b"sec-websocket-version")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def is_handshake(method: bytes, version: str, headers: Headers) -> bool:
    """Return whether a head that offers an upgrade is a valid WebSocket handshake without a body."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _FRAMING:
            return False
        if name in _ONCE:
            if name in found:
                return False
            found[name] = value.strip()
    if method != b"GET" or version != "1.1" or found.get(b"upgrade", b"").lower() != b"websocket":
        return False
    return found.get(b"sec-websocket-version") == b"13" and _is_nonce(found.get(b"sec-websocket-key", b""))


def _is_nonce(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == 16
    except binascii.Error:
        return False


class CallerSocket(asyncio.Protocol):
    """A caller's connection from its handshake on. It replaces the connection that parsed the head.

    Bytes after the head are never parsed as a request. They are kept until the handshake is accepted; if the handshake is
    refused, the connection is closed.
    """

    def __init__(self, connection: Any, cycle: RequestCycle) -> None:
        """`connection` is the gateway.http.connection.CallerConnection."""
        self._connection = connection
        self._cycle = cycle
        self.transport: asyncio.Transport = connection.transport
        self.on_shutdown: Callable[[], None] | None = None
        """A function that is called when the server stops. It is set once the handshake is accepted."""
        self.is_shutting_down = False
        self._early: list[bytes] = []
        self._early_size = 0

    def take_over(self, rest: bytes) -> None:
        """Receive all bytes after the handshake from now on. `rest` holds those that have arrived already."""
        connections = cast("set[Any]", self._connection.connections)
        connections.discard(self._connection)
        connections.add(self)
        self.transport.set_protocol(self)
        if rest:
            self.data_received(rest)

    def accept(self, headers: Headers, protocol: asyncio.Protocol) -> bytes:
        """Answer 101, and connect the transport to another protocol. Return the bytes that have arrived already."""
        lines = [b"HTTP/1.1 101 Switching Protocols", b"connection: Upgrade", b"upgrade: websocket"]
        lines += [b"%b: %b" % header for header in headers]
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
            raise RuntimeError("a response header contains a line break or a NUL")
        self._cycle.status, self._cycle.response_started, self._cycle.response_complete = 101, True, True
        self.transport.set_protocol(protocol)
        self.transport.write(head + b"\r\n\r\n")
        if self._early_size > MAX_EARLY_BYTES:
            self.transport.resume_reading()
        early, self._early = b"".join(self._early), []
        return early

    def data_received(self, data: bytes) -> None:
        """Keep bytes that arrive before the handshake is accepted."""
        self._early.append(data)
        self._early_size += len(data)
        if self._early_size > MAX_EARLY_BYTES >= self._early_size - len(data):
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the disconnect to the call, and forget the connection."""
        self._connection.connections.discard(self)
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Suspend the code that writes the refusal of a handshake."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Resume the code that writes the refusal of a handshake."""
        self._connection.resume_writing()

    def shutdown(self) -> None:
        """Record that the server stops, and begin to close an accepted connection.

        uvicorn calls this when it no longer accepts connections.
        """
        self.is_shutting_down = True
        if self.on_shutdown is not None:
            self.on_shutdown()

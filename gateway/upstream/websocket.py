"""WebSocket handshakes with upstreams, each on a connection of its own, which never serves another request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.upstream.deadlines import Ticker
from gateway.upstream.interim import MAX_INTERIM, TOO_MANY_INTERIM
from gateway.upstream.transport import Deadlines, Origin, UpstreamError, in_seconds
from providers.base import FailureKind, WireRequest

SWITCHING_PROTOCOLS = 101
MAX_HEAD_BYTES = 64 << 10
MAX_REFUSAL_BYTES = 1 << 20
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NO_DEADLINE = float("inf")


class UpstreamSocket(asyncio.Protocol):
    """One connection: its handshake, and either a refusal or a transport for frames."""

    def __init__(self, ticker: Ticker, on_close: Callable[[UpstreamSocket], None]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        """The body of a refusal."""
        self.deadline = NO_DEADLINE
        self.transport: asyncio.Transport | None = None
        self._early = b""
        self._ticker = ticker
        self._on_close = on_close
        self._parser = HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._size = 0
        self._is_complete = False
        self._is_framed = False
        """Whether the head of a refusal shows where its body ends."""
        self._key = b""
        self._late = ""
        self._interim = 0

    async def open(self, request: WireRequest, head: bytes, deadlines: Deadlines) -> None:
        """Send the handshake and read the whole response, or the head of a 101. Raise UpstreamError if no valid response arrives."""
        if self.transport is None or self.transport.is_closing():
            raise UpstreamError("closed_pre", "the upstream closed the connection as soon as it was opened")
        self._key = next((value.encode("latin-1") for name, value in request.headers if name == "sec-websocket-key"), b"")
        self._waiter = asyncio.get_running_loop().create_future()
        self.deadline = self._ticker.clock() + deadlines.first_byte
        self._late = f"the upstream did not respond within {in_seconds(deadlines.first_byte)}"
        self._ticker.watch(self)
        self.transport.write(head)
        request.written = True
        try:
            await self._waiter
        finally:
            self._ticker.forget(self)

    def switch(self, protocol: asyncio.Protocol) -> bytes:
        """Connect the transport to another protocol after a 101. Return the bytes that have arrived after the head."""
        assert self.transport is not None
        early, self._early = self._early, b""
        self.transport.set_protocol(protocol)
        self.transport.resume_reading()
        return early

    def abort(self) -> None:
        """Close the socket at once."""
        if self.transport is not None:
            self.transport.abort()
        self._on_close(self)

    def expire(self, now: float) -> None:
        """End a handshake whose response is late."""
        self._fail("header_timeout", self._late)

    # --- the socket -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of the connected socket."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse the response."""
        if self._waiter is None or self._waiter.done():
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as offer:
            self._finish_upgrade(data[offer.args[0] :])
            return
        except HttpParserError as error:
            self._fail("protocol", f"the upstream's response is not valid HTTP: {error}")
            return
        if self._is_complete:
            self._finish_refusal()
        elif self._size > (MAX_REFUSAL_BYTES if self.status else MAX_HEAD_BYTES):
            self._fail("protocol", "the upstream's response to a WebSocket handshake is too large")

    def eof_received(self) -> None:
        """End a response without a declared length."""
        if self.status and not self._is_framed:
            self._finish_refusal()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the handshake, because the socket is closed."""
        self._on_close(self)
        self._fail("closed_pre", "the upstream closed the connection without a response")

    # --- the parser -----------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header. Trailers are discarded."""
        if not self.status:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Store the status, or discard the headers of an interim response."""
        status = self._parser.get_status_code()
        if status < 200 and status != SWITCHING_PROTOCOLS:
            self.headers.clear()
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._fail("protocol", TOO_MANY_INTERIM)
            return
        self.status = status
        self._is_framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def on_body(self, piece: bytes) -> None:
        """Store a piece of a refusal."""
        self.body += piece

    def on_message_complete(self) -> None:
        """Mark the response as complete."""
        self._is_complete = bool(self.status)

    # --- the result -----------------------------------------------------------------------------------------------

    def _finish_upgrade(self, rest: bytes) -> None:
        values = dict(self.headers)
        if values.get(b"upgrade", b"").strip().lower() != b"websocket":
            self._fail("protocol", "the upstream switched to a protocol other than WebSocket")
        elif values.get(b"sec-websocket-accept", b"").strip() != accept_key(self._key):
            self._fail("protocol", "the upstream's Sec-WebSocket-Accept does not belong to this handshake")
        elif b"sec-websocket-extensions" in values:
            self._fail("protocol", "the upstream uses a WebSocket extension that was not offered")
        else:
            assert self.transport is not None
            self._early = rest
            self.transport.pause_reading()  # until the caller has received the head
            self._settle(None)

    def _finish_refusal(self) -> None:
        if self.status == SWITCHING_PROTOCOLS:
            self._fail("protocol", "the upstream switched protocols without naming one")
            return
        self._settle(None)
        self.abort()

    def _fail(self, kind: FailureKind, message: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._settle(UpstreamError(kind, message))
            self.abort()

    def _settle(self, error: UpstreamError | None) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)


class SocketDestination:
    """The destination of one WebSocket connection, as the dialer uses it."""

    def __init__(self, origin: Origin, ticker: Ticker, on_close: Callable[[UpstreamSocket], None]) -> None:
        self.origin = origin
        self.ticker = ticker
        self._on_close = on_close

    def new_connection(self) -> UpstreamSocket:
        """Return a connection that has no socket yet."""
        return UpstreamSocket(self.ticker, self._on_close)


def accept_key(key: bytes) -> bytes:
    """Return the value by which a server accepts a handshake with this key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())

"""The caller of a passed call. Its request body can be sent on while it arrives.

Nothing is added to the body of its response, except heartbeats between the events of MCP servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from gateway.errors import BadRequest, Headers, RequestTooLarge
from gateway.http.caller import MIN_BODY_BYTES_PER_S, Caller, CallerDeadlines, Send
from gateway.http.json_body import CallerDisconnectedError, Receive


class PassthroughCaller(Caller):
    """The ASGI exchange of one passed call."""

    __slots__ = ("_awaited_since", "_waited", "_waits", "has_left")

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, deadlines: CallerDeadlines) -> None:
        super().__init__(scope, receive, send, deadlines)
        self._waits = False
        """Whether the gateway waits for a piece of the body."""
        self._awaited_since = self._waited = 0.0
        self.has_left = False
        """Whether the caller disconnected before its body was complete."""

    def end_body(self) -> None:
        """Record that the whole body has been read: from now on, `sweep` listens for a disconnect."""
        self.reading_body = False

    async def read_piece(self) -> tuple[bytes, bool]:
        """Return the next piece of the request body, and whether it is the last one."""
        self._waits, self._awaited_since = True, time.monotonic()
        try:
            message = await self._receive()  # not `self.receive`, which would count as progress of a write that may run at the same time
        finally:
            self._waits = False
            self._waited += time.monotonic() - self._awaited_since
        if message["type"] == "http.disconnect":
            self.has_left = True
            raise CallerDisconnectedError
        piece = message.get("body", b"")
        self._body_bytes += len(piece)
        return piece, not message.get("more_body", False)

    async def start_response(self, status: int, headers: Headers) -> None:
        """Send the head of the response at once, even if its body comes later."""
        self.head_sent = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self.write(b"")

    async def start_events(self, status: int, headers: Headers) -> None:
        """Send the head of an event stream. Only whole events may follow, so that heartbeats can be sent between them."""
        self._prepare_stream()
        await self.start_response(status, headers)

    async def fail(self, error: bytes) -> None:
        """Break off a response that has begun, so that the caller does not take the response for complete."""
        self.abort()

    def sweep(self, now: float) -> None:
        """Check the deadlines of the request body and of the response, because a response may begin before the body is complete.

        The time in which the upstream accepts no more of the body does not count against the caller.
        """
        if self.finished or self.disconnected:
            return
        if not self.reading_body and self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())
        if self._sending and now - self._active_at > self._deadlines.write_stall:
            self.stalled, self.reading_body = True, False  # the caller stopped reading, but its body is not late
            self.abort()
            self._cancel()
        elif self._waits and self._is_late(now):
            self.stalled = True
            self._cancel()
        elif self.streaming and now - self._active_at > self._deadlines.heartbeat:
            self._start_heartbeat()

    def _is_late(self, now: float) -> bool:
        """Return whether the caller sends its body too slowly."""
        silence = now - self._awaited_since
        allowed = self._deadlines.body + self._body_bytes / MIN_BODY_BYTES_PER_S
        return silence > self._deadlines.body or self._waited + silence > allowed


class CallerBody:
    """The body of one request as an upload."""

    def __init__(self, caller: PassthroughCaller, headers: Headers, limit: int) -> None:
        """Raise RequestTooLarge if the declared size exceeds `limit`, and BadRequest if that size is not a number of at most 18 digits."""
        self._caller = caller
        self._limit = limit
        self._size = 0
        self.length: int | None = 0
        self.is_declared = False
        for name, value in headers:
            if name == b"transfer-encoding":
                self.length, self.is_declared = None, True
            elif name == b"content-length":
                if not value.isdigit() or len(value) > 18:
                    raise BadRequest("The content-length header must be a number.", code="invalid_header")
                self.length, self.is_declared = int(value), True
        self.has_body = self.length != 0
        if self.length is not None and self.length > limit:
            raise RequestTooLarge(limit)
        self._ended = not self.has_body
        if self._ended:
            caller.end_body()

    @property
    def is_complete(self) -> bool:
        """Whether the body was read to its end."""
        return self._ended

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._size

    async def read(self) -> bytes:
        """Return the next piece, or b"" at the end.

        Raise RequestTooLarge if the body exceeds the limit, and CallerDisconnectedError if the caller disconnects.
        """
        while not self._ended:
            piece, self._ended = await self._caller.read_piece()
            self._size += len(piece)
            if self._size > self._limit:
                raise RequestTooLarge(self._limit)
            if self._ended:
                self._caller.end_body()
            if piece:
                return piece
        return b""

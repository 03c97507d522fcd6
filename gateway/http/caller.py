"""The caller of one call: request headers, response, disconnect and stalls.

After a disconnect, an ASGI server's `send` silently does nothing. If a client stops reading, `send` blocks forever. This
module watches for disconnects and for writes that block.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from gateway.config.listener import CallersConfig
from gateway.errors import Headers
from gateway.http.captured import CapturedContent
from gateway.http.cycle import RequestCycle
from gateway.http.json_body import Receive

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_UNSENT_BYTES = 16 * 1024
"""Number of unsent bytes of a stream, not including those in the kernel, above which the upstream is no longer read."""
HEARTBEAT_EVENT = b": keepalive\n\n"
MIN_BODY_BYTES_PER_S = 4096
"""Minimum rate of a request body that takes longer than its deadline."""


def address_of(scope: MutableMapping[str, Any]) -> str:
    """Return the address of a caller, or "" if the connection has no address, as on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


class CallerDeadlines:
    """Deadlines in seconds: silence before a heartbeat, a write that makes no progress, and the request body.

    A body may take longer than `body` as long as it averages MIN_BODY_BYTES_PER_S, so that large uploads on slow lines succeed.
    """

    __slots__ = ("body", "heartbeat", "write_stall")

    def __init__(self, *, heartbeat: float = 15.0, write_stall: float = 60.0, body: float = 30.0) -> None:
        self.heartbeat = heartbeat
        self.write_stall = write_stall
        self.body = body

    @classmethod
    def from_config(cls, callers: CallersConfig) -> CallerDeadlines:
        """Return the deadlines of a configuration."""
        return cls(heartbeat=callers.heartbeat, write_stall=callers.write_stall, body=callers.body)


class Caller:
    """The ASGI exchange of one call. Everything written to the caller goes through this class."""

    __slots__ = (
        "_active_at",
        "_body_bytes",
        "_captured",
        "_cycle",
        "_deadlines",
        "_heartbeat",
        "_listener",
        "_receive",
        "_send",
        "_sending",
        "_started_at",
        "_task",
        "disconnected",
        "finished",
        "head_sent",
        "headers",
        "query",
        "reading_body",
        "stalled",
        "streaming",
    )  # fmt: skip

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, deadlines: CallerDeadlines) -> None:
        self.headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        self.query: bytes = scope.get("query_string", b"")
        self._receive = receive
        self._send = send
        self._cycle = cycle if type(cycle := getattr(send, "__self__", None)) is RequestCycle else None
        """The gateway's own request cycle, unless middleware wraps it. Its methods avoid building an ASGI message."""
        self._deadlines = deadlines
        self._task = self._cycle.task if self._cycle is not None else asyncio.current_task()
        self._listener: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._captured: CapturedContent | None = None
        self._sending = False
        self._body_bytes = 0
        self._started_at = self._active_at = time.monotonic()
        self.reading_body = True
        """Whether the body is still being read. During that time, reading it detects a disconnect."""
        self.head_sent = False
        """Whether the response head was sent."""
        self.streaming = False
        self.finished = False
        self.disconnected = False
        """Whether the caller disconnected before the response was complete."""
        self.stalled = False
        """Whether the caller was disconnected because it stopped sending or reading for too long."""

    def capture(self, request: bytes) -> CapturedContent:
        """Keep the content of the call from now on, and return the object that keeps it. `request` is the body of the request."""
        self._captured = CapturedContent(request)
        self._send = functools.partial(self._captured.send, send=self._send)
        return self._captured

    def take_body(self) -> bytes | None:
        """Return the whole request body if it has arrived.

        If it has not arrived completely, return None; the body must then be read with `receive`.
        """
        return self._cycle.take_body() if self._cycle is not None else None

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next ASGI message of the request body."""
        message = await self._receive()
        self._body_bytes += len(message.get("body", b""))
        self._active_at = time.monotonic()
        return message

    @property
    def has_gone(self) -> bool:
        """Whether the caller itself has disconnected. The end of a single hedged attempt does not count."""
        return self.disconnected

    def claim(self) -> None:
        """Claim the response. This method does nothing; gateway.attempts.hedge overrides it for hedged attempts."""

    def pass_natively(self) -> None:
        """Send the following bytes as they are.

        This method does nothing, because all bytes are sent as they are; a translated caller overrides it.
        """

    async def fail(self, error: bytes) -> None:
        """End a stream with an error object as its last event."""
        await self.finish(b"data: " + error + b"\n\n")

    async def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a complete response."""
        self.head_sent = True
        if self._cycle is not None and self._captured is None and self._cycle.try_respond(status, headers, body):
            self.finished = True
            return
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self.finish(body)

    async def start_stream(self, headers: Headers) -> None:
        """Send the head of a stream. Only events can follow."""
        self._prepare_stream()
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _prepare_stream(self) -> None:
        self.head_sent = self.streaming = True
        transport = self._transport()
        if transport is not None and not transport.is_closing():  # uvloop raises on a closed transport
            with contextlib.suppress(RuntimeError):
                transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        if self._cycle is not None:
            self._cycle.send_heartbeat = self._start_heartbeat

    async def write(self, data: bytes) -> None:
        """Send events of the stream. Wait until the caller's connection accepts more."""
        # this code is repeated in `finish` instead of shared, because it runs once per event
        self._active_at = time.monotonic()
        self._sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending = False

    async def finish(self, data: bytes) -> None:
        """Send the last bytes of the response."""
        self._active_at = time.monotonic()
        self._sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
        self._sending = False
        self.finished = True

    def sweep(self, now: float) -> None:
        """Check the deadlines: start listening for a disconnect, end a stalled call, or send a heartbeat."""
        if self.finished or self.disconnected:
            return
        silence = now - self._active_at
        if self.reading_body:
            if silence > self._deadlines.body or now - self._started_at > self._deadlines.body + self._body_bytes / MIN_BODY_BYTES_PER_S:
                self.stalled = True
                self._cancel()
        elif self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())
        elif self._sending:
            if silence > self._deadlines.write_stall:
                self.stalled = True
                self.abort()
                self._cancel()
        elif self.streaming and silence > self._deadlines.heartbeat:
            self._start_heartbeat()

    def _start_heartbeat(self) -> None:
        """Start sending a comment, which fails if the caller has disconnected."""
        if not self._sending:
            self._active_at = time.monotonic()
            self._heartbeat = asyncio.get_running_loop().create_task(self._send_heartbeat())

    async def _send_heartbeat(self) -> None:
        """Send a comment, unless a write began or the stream ended since the heartbeat became due."""
        if not self._sending and not self.finished:
            await self.write(HEARTBEAT_EVENT)

    async def _listen(self) -> None:
        """Cancel the call if the caller disconnects before the response is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            continue
        if not self.finished:
            self._cancel()

    def _cancel(self) -> None:
        self.disconnected = True
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Close the caller's connection at once and discard unsent bytes."""
        transport = self._transport()
        if transport is not None:
            with contextlib.suppress(RuntimeError):
                transport.abort()

    def _transport(self) -> Any:
        """Return the socket's transport, or None if the server does not expose the transport as RequestCycle does."""
        send = self._send
        while isinstance(send, functools.partial):  # the CORS middleware wraps `send`
            send = send.keywords["send"]
        return getattr(getattr(send, "__self__", None), "transport", None)

    def close(self) -> None:
        """Stop listening for a disconnect: the call is over."""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None

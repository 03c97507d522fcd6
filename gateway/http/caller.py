"""The caller's side of one call: its request's head, the answer on its way out, and whether anybody still listens.

A server's `send` does nothing once the caller has left, and waits for ever on a reader who stopped; so both are watched here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from gateway.config.types import CallersConfig
from gateway.errors import Headers
from gateway.http.cycle import RequestCycle
from gateway.http.json_body import Receive

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_UNSENT_BYTES = 16 * 1024
"""Bytes of a stream that may wait for a slow reader, beside what the kernel holds, before nothing more is taken from the upstream."""
HEARTBEAT = b": keepalive\n\n"
MIN_BODY_BYTES_PER_S = 4096
"""Bytes a second that a body must keep up once it is over its time."""


class CallerDeadlines:
    """Seconds: of silence after which a stream gets a comment, until a reader who takes nothing is cut off, and for a body to arrive.

    A body may take longer in all as long as it keeps up SLOWEST bytes a second; large uploads on slow lines are not refused.
    """

    __slots__ = ("body", "heartbeat", "write_stall")

    def __init__(self, *, heartbeat: float = 15.0, write_stall: float = 60.0, body: float = 30.0) -> None:
        self.heartbeat = heartbeat
        self.write_stall = write_stall
        self.body = body

    @classmethod
    def from_config(cls, callers: CallersConfig) -> CallerDeadlines:
        """As configured."""
        return cls(heartbeat=callers.heartbeat, write_stall=callers.write_stall, body=callers.body)


class Caller:
    """One ASGI exchange. Everything that is written to the caller goes through here."""

    __slots__ = (
        "_active_at",
        "_body_bytes",
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
        self._cycle = turn if type(turn := getattr(send, "__self__", None)) is RequestCycle else None
        """The server's own side of the exchange, where nothing stands between: asked without a message for everything."""
        self._deadlines = deadlines
        self._task = self._cycle.task if self._cycle is not None else asyncio.current_task()
        self._listener: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._sending = False
        self._body_bytes = 0
        self._started_at = self._active_at = time.monotonic()
        self.reading_body = True
        """The body is still being read: a disconnect shows there."""
        self.head_sent = False
        """The answer's head was sent."""
        self.streaming = False
        self.finished = False
        self.disconnected = False
        """The caller left before the answer was complete."""
        self.stalled = False
        """The caller was cut off because it took nothing for too long."""

    def take_body(self) -> bytes | None:
        """The request's body where it is here as a whole; else None, and it is to be received."""
        return self._cycle.take_body() if self._cycle is not None else None

    async def receive(self) -> MutableMapping[str, Any]:
        """The next piece of the request's body."""
        message = await self._receive()
        self._body_bytes += len(message.get("body", b""))
        self._active_at = time.monotonic()
        return message

    def claim(self) -> None:
        """An attempt has something to say. Only where two attempts race does it matter which claims first (gateway.hedge)."""

    async def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer at once."""
        self.head_sent = True
        if self._cycle is not None and self._cycle.try_respond(status, headers, body):
            self.finished = True
            return
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self.finish(body)

    async def start_stream(self, headers: Headers) -> None:
        """The head of a stream; from here on nothing but events can be sent."""
        self.head_sent = self.streaming = True
        transport = self._transport()
        if transport is not None and not transport.is_closing():  # uvloop raises for a closed one
            with contextlib.suppress(RuntimeError):
                transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Events of the stream; returns when the caller's connection takes more. Written out: it is done for every piece."""
        self._active_at = time.monotonic()
        self._sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending = False

    async def finish(self, data: bytes) -> None:
        """The stream's last bytes."""
        self._active_at = time.monotonic()
        self._sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
        self._sending = False
        self.finished = True

    def sweep(self, now: float) -> None:
        """Start listening for a disconnect, end a stalled write, fill a silence."""
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
            self._active_at = now
            self._heartbeat = asyncio.get_running_loop().create_task(self._send_heartbeat())

    async def _send_heartbeat(self) -> None:
        """A comment, unless something was written since it was found due: nothing may follow the end."""
        if not self._sending and not self.finished:
            await self.write(HEARTBEAT)

    async def _listen(self) -> None:
        """Cancel the call when the caller leaves before the answer is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            continue
        if not self.finished:
            self._cancel()

    def _cancel(self) -> None:
        self.disconnected = True
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Close the caller's connection now, unsent bytes and all."""
        transport = self._transport()
        if transport is not None:
            with contextlib.suppress(RuntimeError):
                transport.abort()

    def _transport(self) -> Any:
        """The socket's transport, where the server shows it (ASGI has no word for it; gateway.turn has it)."""
        send = self._send
        while isinstance(send, functools.partial):  # CORS wraps it
            send = send.keywords["send"]
        return getattr(getattr(send, "__self__", None), "transport", None)

    def close(self) -> None:
        """The call is over: stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None

"""One request on a caller's connection and its response: the `receive` and `send` of ASGI.

uvicorn's own cycle writes head and body separately and matches two regular expressions against each header. This cycle keeps
the head until the first bytes of the body arrive, sends both in one write if these are at most MAX_JOINED_BYTES, and checks the
head as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.server import ServerState

from gateway.http.flow_control import FlowControl
from gateway.http.rounds import Rounds

App = Callable[..., Awaitable[None]]
Message = MutableMapping[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

MAX_JOINED_BYTES = 64 << 10
"""Size above which a body is written separately instead of being copied behind its head."""
UNKNOWN_LENGTH = -1
"""The length of a body without a content-length: a chunked body, or one that ends when its connection closes."""
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EMPTY_AND_CLOSE: Headers = ((b"content-length", b"0"), (b"connection", b"close"))


class _Defaults:
    """The headers that the server adds to every response, encoded as bytes. The list changes each second with the date."""

    source: Headers | None = None
    text = b""

    def read(self, headers: Headers) -> bytes:
        """Return the headers as bytes, which are joined again only if the list has changed."""
        if headers is not self.source:
            self.source, self.text = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self.text


_defaults = _Defaults()


class Connection(Protocol):
    """The part of a connection that its request cycles use."""

    transport: asyncio.Transport
    flow: FlowControl
    server_state: ServerState
    tasks: set[asyncio.Task[None]]
    fast_call: FastCall | None
    rounds: Rounds

    def on_response_complete(self) -> None:
        """Start the next request that is waiting, read the rest of the answered request's body, or send a rejection that is waiting."""
        ...


class FastCall(Protocol):
    """A call that is served without a task (gateway.fast)."""

    def on_disconnect(self) -> None:
        """Continue the call in a task, because the caller has disconnected."""
        ...

    def continue_in_task(self) -> None:
        """Continue the call in a task, so that it can be cancelled."""
        ...


class RequestCycle:
    """One request in progress. After a disconnect, `receive` reports the disconnect and `send` discards its messages."""

    __slots__ = (
        "_bytes_left",
        "_chunked",
        "_connection",
        "_flow",
        "_has_event",
        "_head",
        "_omits_body",
        "_waiter",
        "body",
        "disconnected",
        "expects_continue",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
        "send_heartbeat",
        "status",
        "task",
        "transport",
    )  # fmt: skip

    def __init__(self, connection: Connection, scope: Message, *, keep_alive: bool, expects_continue: bool) -> None:
        """`expects_continue`: the caller waits for `100 Continue` before it sends the body."""
        self.scope = scope
        self.transport = connection.transport
        self.keep_alive = keep_alive
        self.body: bytes | bytearray = b""
        """Bytes of the request body that arrived since the last read."""
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self.send_heartbeat: Callable[[], None] | None = None
        """Sends a comment to the caller of a stream, once its response has started."""
        self.status = 0
        self.task: asyncio.Task[None] | None = None
        self._has_event = False
        """Whether `receive` has an event to return."""
        self._waiter: asyncio.Future[None] | None = None
        self._connection = connection
        self._flow = connection.flow
        self.expects_continue = expects_continue
        self._head = b""
        self._chunked = self._omits_body = False
        self._bytes_left = 0
        """Bytes of the response's content-length that are still to be sent."""

    async def run(self, app: App) -> None:
        """Run the application. Afterwards, the connection is either ready for the next request or closed."""
        try:
            with contextlib.suppress(Exception):  # the application has logged it
                await app(self.scope, self.receive, self.send)
        finally:
            self._connection.tasks.discard(self.task)
            self.send_heartbeat = None  # the function refers to this cycle
            if not self.response_complete and not self.disconnected:
                self._fail()

    @property
    def rounds(self) -> Rounds:
        """The rounds that run the steps of this process's calls."""
        return self._connection.rounds

    def forget_headers(self) -> None:
        """Free the headers of the request, which have been read."""
        self.scope["headers"] = ()

    def set_fast_call(self, call: FastCall | None) -> None:
        """Tell the connection which call is served without a task. `call` is None if the call has ended or now has a task."""
        self._connection.fast_call = call

    def start_task(self, app: App) -> None:
        """Run the application in a task of its own."""
        self.task = asyncio.get_running_loop().create_task(self.run(app))
        self._connection.tasks.add(self.task)

    def _fail(self) -> None:
        if not self.response_started and not self.transport.is_closing():
            self.transport.write(self._encode_head(500, _EMPTY_AND_CLOSE))
        self.transport.close()

    async def receive(self) -> Message:
        """Return the next piece of the request body, or `http.disconnect` after a disconnect or a complete response."""
        if self.expects_continue and not self.transport.is_closing():
            self.transport.write(_CONTINUE)
            self.expects_continue = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            if not self._has_event:
                await self._wait()
            self._has_event = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def resume_reading(self) -> None:
        """Resume reading, which the caller's next request may have paused: a disconnect is noticed only while the connection is read."""
        self._flow.resume_reading()

    def probe(self) -> None:
        """Send an interim response, or a comment if a stream has started. The write fails if the caller has disconnected."""
        if not self.response_started:
            self.transport.write(_CONTINUE)
        elif self.send_heartbeat is not None:
            self.send_heartbeat()

    async def _wait(self) -> None:
        while not self._has_event:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def add_body(self, piece: bytes) -> None:
        """Buffer a piece of the request body, and wake up `receive`.

        Pieces are collected in a bytearray, so that many small ones take linear time.
        """
        if not self.body:
            self.body = piece
        elif type(self.body) is bytearray:
            self.body += piece
        else:
            self.body = bytearray(self.body) + piece
        self._has_event = True
        if self._waiter is not None:
            self.notify()

    def notify(self) -> None:
        """Wake up `receive`, because part of the body arrived, the caller disconnected, or the response is complete."""
        self._has_event = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_body(self) -> bytes | None:
        """Return the unread rest of the request body if all of it has arrived, else None.

        This is cheaper than a message from `receive`.
        """
        if self.more_body or self.disconnected or self.response_complete:
            return None
        if self._flow.read_paused:
            self._flow.resume_reading()
        self._has_event = False
        body, self.body = bytes(self.body), b""
        return body

    def try_respond(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a complete response without building messages.

        Return False if the connection accepts no data now or a response has started.
        """
        if self._flow.write_paused or self.response_started:
            return False
        if not self.disconnected:
            self._head = self._encode_head(status, headers)
            self._write_body(body, more=False)
        return True

    @property
    def accepts_data(self) -> bool:
        """Whether the caller's connection accepts more data now."""
        return not self._flow.write_paused

    def begin_response(self, status: int, headers: Headers) -> None:
        """Encode the head of a response. The head is sent with the first bytes of the body."""
        if not self.disconnected:
            self._head = self._encode_head(status, headers)

    def write_body(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the body without waiting, even if the connection accepts no more data now."""
        if not self.disconnected:
            self._write_body(body, more=more)

    async def send(self, message: Message) -> None:
        """Wait until the connection accepts data; then keep the response head until the body starts, or send a piece of the body."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._head = self._encode_head(message["status"], message.get("headers", ()))
        else:
            self._write_body(message.get("body", b""), more=message.get("more_body", False))

    def _write_body(self, body: bytes, *, more: bool) -> None:
        if self._bytes_left >= 0 and not self._omits_body:
            self._bytes_left -= len(body)
            if self._bytes_left < 0 or (self._bytes_left and not more):
                raise RuntimeError("the response body does not match its content-length")
        elif self._chunked:
            body = _chunk(body, last=not more)
        head, self._head = self._head, b""
        if self._omits_body:
            body = b""
        if head and len(body) > MAX_JOINED_BYTES:
            self.transport.write(head)
            head = b""
        self.transport.write(head + body if head else body)
        if not more:
            self.response_complete = self._has_event = True
            if self._waiter is not None:
                self.notify()
            if not self.keep_alive and not self.more_body:
                self.transport.close()
            self._connection.on_response_complete()

    def _encode_head(self, status: int, headers: Headers) -> bytes:
        """Encode the response head and decide how the end of the body is marked. Header names must be lower case."""
        self.response_started, self.expects_continue, self.status = True, False, status
        defaults = self._connection.server_state.default_headers
        parts, lines = [_STATUS.get(status) or b"HTTP/1.1 %d\r\n" % status, _defaults.read(defaults)], 2 + len(defaults) + len(headers)
        self._bytes_left, closes = UNKNOWN_LENGTH, False
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self._bytes_left = int(value)
            elif name == b"connection":
                closes = b"close" in value.lower()
        self._omits_body = status in (204, 304) or self.scope["method"] == "HEAD"
        if self._bytes_left < 0 and not self._omits_body:
            if self.scope["http_version"] == "1.1":
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
                lines += 1
            else:
                self.keep_alive = False
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or head.find(b"\0") >= 0:
            raise RuntimeError("a response header contains a line break or a NUL")
        return head


def _chunk(body: bytes, *, last: bool) -> bytes:
    """Encode a piece of a chunked body, followed by the end of the body if `last` is True."""
    if not last:
        return b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"

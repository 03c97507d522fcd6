"""The callers' side of the wire before there is a call: heads that are too slow, too large, or not HTTP as it should be, are refused here.

uvicorn's own connection has no deadline for a request's head, no cap on it, no opinion on the Host header, and refuses in plain text.

    in time     a head is complete soon after the connection or its own first byte     408; nothing at all: closed
    in size     16 KiB and 100 headers                                                 431
    in form     one sound Host; no WebSocket; what llhttp parses strictly              400, 426

A refusal is OpenAI's error object, and the connection ends with it; an answer under way on that connection is finished first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import GatewayError
from gateway.http.cycle import RequestCycle
from gateway.http.request_id import next_id

MAX_HEAD_BYTES = 16 << 10
MAX_HEADERS = 100
LINGER_S = 1.0
"""Seconds that what a refused caller still sends is read and thrown away, so that the refusal arrives."""
MAX_BUFFERED_BODY_BYTES = 64 << 10
"""Bytes of a request's body that are held for an application that has not asked for them."""
KEEP_ALIVE_S = 75.0
"""Seconds that an idle caller's connection is kept: longer than common proxies keep theirs, so that they close first."""
MAX_CACHED_URLS = 256
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_url_cache: dict[bytes, tuple[str, bytes, bytes]] = {}
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+\Z")
_OFFER = re.compile(rb"\r\nupgrade:[ \t]*h2c(?=[ \t]*(\r\n|\Z))", re.IGNORECASE)

Problem = tuple[int, str, str]
"""Status, code, message."""
INVALID_HTTP: Problem = (400, "invalid_http", "The request is not valid HTTP.")
HEAD_TIMEOUT: Problem = (408, "request_timeout", "The request's head did not arrive in time.")
HEAD_TOO_LARGE: Problem = (431, "headers_too_large", f"The request's headers are over {MAX_HEAD_BYTES >> 10} KiB or {MAX_HEADERS} in number.")
INVALID_HOST: Problem = (400, "invalid_host", "A request needs one Host header that is a host's name.")
UPGRADE_UNSUPPORTED: Problem = (426, "upgrade_not_supported", "This gateway speaks HTTP/1.1 and no WebSocket.")


class _DiscardedTrailers(list[tuple[bytes, bytes]]):
    """Where headers go that come after a body: nobody needs them, however many they are."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Forget it."""


_TRAILERS = _DiscardedTrailers()


class RejectedHeadError(Exception):
    """Raised inside a parser callback to stop the parser; the problem is on the connection."""


class CallerConnection(HttpToolsProtocol):
    """One caller's connection. Nothing is timed while requests come as they should; who looks at it now and then sees what is late."""

    def __init__(self, *args: Any, on_reject: Callable[[str], None] | None = None, **named: Any) -> None:
        """`refused` hears the code of every refusal, or `idle` for a connection that was closed without a request."""
        super().__init__(*args, **named)
        self._on_reject = on_reject
        self.awaits_head = True
        """A new connection owes its first request; an idle one that was used owes nothing until the next request begins."""
        self.head_begun = False
        self.awaited_since = 0.0
        self._in_body = False
        self._head_size = 0
        """Bytes that came of a head that is not complete."""
        self._problem: Problem | None = None
        self._pending_rejection: Problem | None = None
        self._rejected = False
        self._expects_continue = False
        self._current: RequestCycle | None = None
        self.url = b""
        self.idle_since = 0.0
        """When the last answer was finished."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone, or was let go."""
        self.connections.discard(self)
        turn = self._current
        if turn is not None:
            turn.disconnected = turn.disconnected or not turn.response_complete
            turn.notify()
        self.flow.resume_writing()
        self.transport.close()
        self.parser = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller, unless it was refused already."""
        if self._rejected:
            return
        if not self._in_body:
            self._head_size += len(data)
            if data.find(b"h2c", 0, data.find(b"\r\n\r\n")) >= 0:
                data = _without_h2c_offer(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an offer of another protocol is not an error: it is answered in this one
        except httptools.HttpParserError:
            self.reject(self._problem or INVALID_HTTP)
        if self._head_size > MAX_HEAD_BYTES and not self._in_body and not self._rejected:
            self.reject(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request is here."""
        self.awaits_head = self.head_begun = True
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: refuse it, or start the call; behind one that is under way, if there is one."""
        self.awaits_head, self.awaited_since, self._head_size = False, 0.0, 0
        version, parser = self.parser.get_http_version(), self.parser
        self._problem = self._check_head(version)
        if self._problem is not None:
            raise RejectedHeadError
        self._in_body = True
        path, raw_path, query = _split_url(self.url)
        scope = {
            "type": "http", "asgi": _ASGI, "http_version": version, "method": parser.get_method().decode("ascii"), "scheme": self.scheme,
            "path": path, "raw_path": raw_path, "query_string": query, "root_path": "", "headers": self.headers,
            "server": self.server, "client": self.client, "state": {},
        }  # fmt: skip
        turn = RequestCycle(self, scope, keep_alive=version != "1.0" and parser.should_keep_alive(), expects_continue=self._expects_continue)
        self.headers = _TRAILERS
        before, self._current = self._current, turn
        if before is None or before.response_complete:
            self._start(turn)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((turn, self.app))  # type: ignore[arg-type]

    def _start(self, turn: RequestCycle) -> None:
        turn.task = self.loop.create_task(turn.run(self.app))
        self.tasks.add(turn.task)

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body; what comes after the answer is read for nobody."""
        turn = self._current
        if turn is not None and not turn.response_complete:
            turn.body = turn.body + body if turn.body else body
            if len(turn.body) > MAX_BUFFERED_BODY_BYTES:
                self.flow.pause_reading()
            turn.notify()

    def on_message_complete(self) -> None:
        """The request is here; what comes now is the next one's head."""
        self._in_body = False
        turn = self._current
        if turn is not None and not turn.response_complete:
            turn.more_body = False
            turn.notify()

    def shutdown(self) -> None:
        """The server ends: so does this connection, after the answer that is under way."""
        if self._current is None or self._current.response_complete:
            self.transport.close()
        else:
            self._current.keep_alive = False

    def on_response_complete(self) -> None:
        """An answer is finished: on with the next request, or with refusing what came after this one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            turn, _ = self.pipeline.pop()
            self._start(cast("RequestCycle", turn))
            return
        self.idle_since = time.monotonic()
        if self._pending_rejection is not None:
            late, self._pending_rejection = self._pending_rejection, None
            self.reject(late)

    def close_if_overdue(self, now: float, deadline: float) -> None:
        """Close a connection whose head has been awaited for `deadline` seconds, with a 408 if some of it had come; or that is idle."""
        if self._rejected or self.transport is None or self.transport.is_closing() or self._is_busy():
            return
        if not self.awaits_head:
            if self.idle_since and now - self.idle_since > KEEP_ALIVE_S:
                self.transport.close()
            return
        if not self.awaited_since:
            self.awaited_since = now
        elif now - self.awaited_since > deadline:
            if self.head_begun:
                self.reject(HEAD_TIMEOUT)
            else:
                self._report_rejection("idle")
                self.transport.close()

    def reject(self, problem: Problem) -> None:
        """Answer with an error and end the connection; after the answer that is under way, if one is."""
        self._rejected = True
        turn = self._current
        if turn is not None and not turn.response_complete:
            if not turn.more_body:
                self._pending_rejection = problem
                return
            turn.disconnected = True  # its body will never be complete
            turn.notify()
            if turn.response_started:
                self.transport.abort()
                return
        self._report_rejection(problem[1])
        self.transport.write(_error_response(problem))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def _is_busy(self) -> bool:
        """An answer is under way."""
        return self._current is not None and not self._current.response_complete

    def _report_rejection(self, reason: str) -> None:
        if self._on_reject is not None:
            self._on_reject(reason)

    def _check_head(self, version: str) -> Problem | None:
        """What is wrong with a head that parsed."""
        headers = self.headers
        size, hosts, host, self._expects_continue = 4 * len(headers), 0, b"", False
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts, host = hosts + 1, value
            elif name == b"expect":
                self._expects_continue = value.lower() == b"100-continue"
        if size > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS or len(self.url) > MAX_HEAD_BYTES:
            return HEAD_TOO_LARGE
        if (hosts != 1 or not _HOST.match(host)) and (hosts or version != "1.0"):
            return INVALID_HOST
        if self.parser.should_upgrade() and self._get_upgrade() == b"websocket":
            return UPGRADE_UNSUPPORTED
        return None


def close_overdue(connections: Iterable[object], deadline: float) -> None:
    """Look at every connection once."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, CallerConnection):
            connection.close_if_overdue(now, deadline)


def _split_url(url: bytes) -> tuple[str, bytes, bytes]:
    """A request's path, decoded and raw, and its query. The few that callers use are remembered."""
    found = _url_cache.get(url)
    if found is not None:
        return found
    parsed = httptools.parse_url(url)
    raw, query = parsed.path or b"", parsed.query or b""
    path = raw.decode("ascii")
    found = (unquote(path) if "%" in path else path, raw, query)
    if not query and len(url) < MAX_CACHED_URLS and len(_url_cache) < MAX_CACHED_URLS:  # a query may hold a secret
        _url_cache[url] = found
    return found


def _without_h2c_offer(data: bytes) -> bytes:
    """A head without its offer of HTTP/2, as Java's client makes with every request: the parser would stop there and lose the body."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(b"\r\nx-offered: h2c", head, count=1) + end + rest


def _error_response(problem: Problem) -> bytes:
    status, code, message = problem
    body = GatewayError(message, status=status, code=code, type="invalid_request_error").body()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {next_id()}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body

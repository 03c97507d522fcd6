"""A caller's connection: parses requests and rejects heads that are late, too large or malformed.

uvicorn's own connection has no deadline and no size limit for a request head, does not check the Host header, and reports
errors in plain text.

    too late      the head is incomplete some time after the connection opened     408; closed silently if nothing arrived
                  or its first byte arrived
    too large     more than 16 KiB or 100 headers                                  431
    malformed     no valid Host header, a WebSocket upgrade, a parser error        400, 426

The error has OpenAI's shape, and the connection is closed after it. A response in flight on the connection is finished first.
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
"""Seconds to keep reading and discarding input after an error, so that the error reaches the caller."""
MAX_BUFFERED_BODY_BYTES = 64 << 10
"""Bytes of a request body that are buffered before the application asks for them."""
KEEP_ALIVE_S = 75.0
"""Seconds that an idle connection is kept open: longer than common proxies keep theirs, so that they close first."""
MAX_CACHED_URLS = 256
MAX_CACHED_URL_BYTES = 256
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_url_cache: dict[bytes, tuple[str, bytes, bytes]] = {}
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+\Z")
_H2C_OFFER = re.compile(rb"\r\nupgrade:[ \t]*h2c(?=[ \t]*(\r\n|\Z))", re.IGNORECASE)

Problem = tuple[int, str, str]
"""Status, code, message."""
INVALID_HTTP: Problem = (400, "invalid_http", "The request is not valid HTTP.")
HEAD_TIMEOUT: Problem = (408, "request_timeout", "The request headers did not arrive in time.")
HEAD_TOO_LARGE: Problem = (431, "headers_too_large", f"Request headers exceed {MAX_HEAD_BYTES >> 10} KiB or {MAX_HEADERS} fields.")
INVALID_HOST: Problem = (400, "invalid_host", "Exactly one valid Host header is required.")
UPGRADE_UNSUPPORTED: Problem = (426, "upgrade_not_supported", "WebSocket is not supported. Use HTTP/1.1.")


class _DiscardedTrailers(list[tuple[bytes, bytes]]):
    """Discards trailers."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Discard the trailer."""


_TRAILERS = _DiscardedTrailers()


class RejectedHeadError(Exception):
    """Raised in a parser callback to stop the parser. The connection holds the problem."""


class CallerConnection(HttpToolsProtocol):
    """One caller's connection. It starts no timers: `close_overdue` checks all connections about once a second."""

    def __init__(self, *args: Any, on_reject: Callable[[str], None] | None = None, **kwargs: Any) -> None:
        """`on_reject` is called with the code of each rejection, or with `idle` if the connection is closed without a request."""
        super().__init__(*args, **kwargs)
        self._on_reject = on_reject
        self.awaits_head = True
        """Whether the connection waits for a request head.

        An idle connection that already served a request does not.
        """
        self.head_begun = False
        self.awaited_since = 0.0
        self._in_body = False
        self._head_size = 0
        """Bytes received of a head that is still incomplete."""
        self._problem: Problem | None = None
        self._pending_rejection: Problem | None = None
        self._rejected = False
        self._expects_continue = False
        self._current: RequestCycle | None = None
        self.url = b""
        self.idle_since = 0.0
        """When the last response was finished."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the current request of the disconnect, and release the parser."""
        self.connections.discard(self)
        cycle = self._current
        if cycle is not None:
            cycle.disconnected = cycle.disconnected or not cycle.response_complete
            cycle.notify()
        self.flow.resume_writing()
        self.transport.close()
        self.parser = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the caller, unless the connection was rejected."""
        if self._rejected:
            return
        if not self._in_body:
            self._head_size += len(data)
            if data.find(b"h2c", 0, data.find(b"\r\n\r\n")) >= 0:
                data = _without_h2c_offer(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an offered upgrade is ignored: the request is served over HTTP/1.1
        except httptools.HttpParserError:
            self.reject(self._problem or INVALID_HTTP)
        if self._head_size > MAX_HEAD_BYTES and not self._in_body and not self._rejected:
            self.reject(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Reset the state of the head: the first byte of a request has arrived."""
        self.awaits_head = self.head_begun = True
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header or discard one trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Reject the head, or start its request as soon as the previous response on this connection is complete."""
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
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle = RequestCycle(self, scope, keep_alive=keep_alive, expects_continue=self._expects_continue)
        self.headers = _TRAILERS
        previous, self._current = self._current, cycle
        if previous is None or previous.response_complete:
            self._start(cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]

    def _start(self, cycle: RequestCycle) -> None:
        cycle.task = self.loop.create_task(cycle.run(self.app))
        self.tasks.add(cycle.task)

    def on_body(self, body: bytes) -> None:
        """Buffer a piece of the request body. Discard it if the response is already complete."""
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            cycle.body = cycle.body + body if cycle.body else body
            if len(cycle.body) > MAX_BUFFERED_BODY_BYTES:
                self.flow.pause_reading()
            cycle.notify()

    def on_message_complete(self) -> None:
        """Mark the request as complete. Bytes from now on belong to the next head."""
        self._in_body = False
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.notify()

    def shutdown(self) -> None:
        """Close the connection when the server stops, after the response in flight."""
        if self._current is None or self._current.response_complete:
            self.transport.close()
        else:
            self._current.keep_alive = False

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or send the rejection that waited for this response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, _ = self.pipeline.pop()
            self._start(cast("RequestCycle", cycle))
            return
        self.idle_since = time.monotonic()
        if self._pending_rejection is not None:
            problem, self._pending_rejection = self._pending_rejection, None
            self.reject(problem)

    def close_if_overdue(self, now: float, deadline: float) -> None:
        """Close the connection if it was idle for too long or its head is `deadline` seconds late; send a 408 if part of it arrived."""
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
        """Send an error and close the connection, after the response in flight if there is one."""
        self._rejected = True
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                self._pending_rejection = problem
                return
            cycle.disconnected = True  # the body will never be complete
            cycle.notify()
            if cycle.response_started:
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
        """Return whether a response is in flight."""
        return self._current is not None and not self._current.response_complete

    def _report_rejection(self, reason: str) -> None:
        if self._on_reject is not None:
            self._on_reject(reason)

    def _check_head(self, version: str) -> Problem | None:
        """Return the problem with a parsed head, or None."""
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
    """Close every connection that is idle or late."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, CallerConnection):
            connection.close_if_overdue(now, deadline)


def _split_url(url: bytes) -> tuple[str, bytes, bytes]:
    """Return the path, decoded and raw, and the query of a URL. Common URLs are cached."""
    parts = _url_cache.get(url)
    if parts is not None:
        return parts
    parsed = httptools.parse_url(url)
    raw, query = parsed.path or b"", parsed.query or b""
    path = raw.decode("ascii")
    parts = (unquote(path) if "%" in path else path, raw, query)
    if not query and len(url) < MAX_CACHED_URL_BYTES and len(_url_cache) < MAX_CACHED_URLS:  # a query may hold a secret
        _url_cache[url] = parts
    return parts


def _without_h2c_offer(data: bytes) -> bytes:
    """Hide an offer to upgrade to HTTP/2, as Java's client sends: the parser would stop there and lose the body."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return _H2C_OFFER.sub(b"\r\nx-offered: h2c", head, count=1) + end + rest


def _error_response(problem: Problem) -> bytes:
    status, code, message = problem
    body = GatewayError(message, status=status, code=code, type="invalid_request_error").as_body()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {next_id()}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body

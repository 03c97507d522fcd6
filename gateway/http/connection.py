"""A caller's connection: parses requests and rejects heads that are late, too large or malformed.

uvicorn's own connection has no deadline and no size limit for a request head, does not check the Host header, and reports
errors in plain text.

    too late      the head is incomplete some time after the connection opened     408; closed silently if nothing arrived
                  or its first byte arrived
    too large     more than 16 KiB or 100 headers, in heads or trailers;           431
                  chunk extensions or very small chunks of that size
    malformed     no valid Host header, an encoding besides chunked,               400, 426
                  a WebSocket handshake that is invalid or not
                  allowed, a parser error
    not local     on a listener without keys: see gateway.http.page_guard          403

The error has OpenAI's format, and the connection is closed after it. A complete request in flight is answered before the error is sent.
gateway.http.upgrade handles offers to upgrade to other protocols.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools

from gateway.http.chunk_framing import NO_TRAILERS, ChunkFraming
from gateway.http.cycle import RequestCycle
from gateway.http.head import check_head, split_url
from gateway.http.page_guard import PageGuard
from gateway.http.rejection import (
    CHUNKS_TOO_LARGE,
    HEAD_TIMEOUT,
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    Problem,
    RejectedRequestError,
    error_response,
    problem_of,
)
from gateway.http.request_start import StartingConnection

LINGER_S = 1.0
"""Seconds to keep reading and discarding input after an error, so that the error reaches the caller."""
MAX_LINGER_BYTES = 1 << 20
"""Maximum number of bytes to discard during LINGER_S."""
TOO_LARGE_LINGER_S = 5.0
"""LINGER_S after a 413, which proxies forward only once they have sent the whole body."""
MAX_TOO_LARGE_LINGER_BYTES = 256 << 20
READ_ON_S = 5.0
MAX_READ_ON_BYTES = 64 << 10
"""Maximum seconds and bytes for the rest of a request body after its response, so that the connection can serve another request."""
MAX_BUFFERED_BODY_BYTES = 64 << 10
"""Number of buffered bytes of a request body above which reading pauses until the application asks for them."""
KEEP_ALIVE_S = 75.0
"""Seconds for which an idle connection is kept open. Common proxies close their idle connections earlier than this."""
PROBE_DELAYS_S = (0.01, 0.1, 1.0, 10.0)
"""Seconds between probes of a caller that has closed its writing side. The probes are few, because clients accept few interim responses."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class CallerConnection(StartingConnection):
    """One caller's connection. Its deadlines need no timers: `close_overdue` checks all connections about once a second."""

    __slots__ = (
        "_answered", "_current", "_discardable", "_framing", "_guard", "_head_size", "_in_body", "_on_reject", "_pending_rejection",
        "_read_on", "_rejected", "awaited_since", "awaits_head", "head_begun", "idle_since",
    )  # fmt: skip

    def __init__(
        self, *args: Any, on_reject: Callable[[str], None] | None = None, guard: PageGuard | None = None, **kwargs: Any
    ) -> None:
        """`on_reject` is called with the code of each rejection, or with `idle` if no request was sent.

        `guard` holds the rules that reject requests from web pages of other sites.
        If `serves_websockets` is True, WebSocket handshakes become calls.
        """
        super().__init__(*args, **kwargs)
        self._on_reject = on_reject
        self._guard = guard or PageGuard()
        self.awaits_head = True
        """Whether the connection waits for a request head. This is False for an idle connection that has served a request."""
        self.head_begun = False
        self.awaited_since = 0.0
        self._in_body = False
        self._head_size = 0
        """Bytes received of a head that is still incomplete."""
        self._pending_rejection: Problem | None = None
        self._rejected = False
        """Whether a request was rejected, so that all further input is discarded."""
        self._discardable = MAX_LINGER_BYTES
        """Bytes that may still be discarded before the connection is closed."""
        self._read_on = 0
        """Bytes of a body that may still be read although its response is complete."""
        self._framing: ChunkFraming | None = None
        """The framing of the current body, or None if it is not chunked."""
        self._current: RequestCycle | None = None
        self._answered: RequestCycle | None = None
        """The request that is being answered: an earlier one than `_current` if the caller sends requests without waiting."""
        self.idle_since = 0.0  # when the last response was finished

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the requests in progress of the disconnect, and release the parser and the requests."""
        self.connections.discard(self)
        for cycle in (self._answered, self._current):
            if cycle is not None:
                cycle.disconnected = cycle.disconnected or not cycle.response_complete
                cycle.notify()
        self.start_call()
        if self.fast_call is not None:
            self.fast_call.on_disconnect()
        self.flow.resume_writing()
        self.transport.close()
        # The parser and the last request refer to this connection: without these reference cycles, it is freed immediately.
        self.parser = self._current = self._answered = None  # type: ignore[assignment]
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the caller, unless a request was rejected."""
        if self._rejected:
            self._discard(len(data))
            return
        if not self._in_body:
            self._head_size += len(data)
        before, after_offer = self._current, None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            after_offer = memoryview(data)[offer.args[0] :]
        except httptools.HttpParserError as error:
            self.reject(problem_of(error))
        if after_offer is not None:
            self.follow_offer(after_offer)  # not in the handler, because `problem_of` reads the context of an error
        if self._in_body:
            if before is self._current:  # all of `data` belongs to the same body
                self._check_body(len(data))
        elif self._head_size > MAX_HEAD_BYTES and not self._rejected:
            self.reject(HEAD_TOO_LARGE)
        if self.ready is not None:
            self.start_or_wait(self.ready, is_alone=self.ready is self._current and not self._rejected)

    def _check_body(self, size: int) -> None:
        """Limit the rest of the body of a request whose response is complete, and the framing of a chunked body."""
        cycle = self._current
        if self._rejected or cycle is None:
            return
        if cycle.response_complete:
            self._read_on -= size
            if self._read_on < 0:
                self._linger()
        elif self._framing is not None and self._framing.is_too_large(size):
            self.reject(CHUNKS_TOO_LARGE)

    def eof_received(self) -> bool:
        """Return whether the connection is kept: a caller that has sent a complete request may have closed only its writing side.

        A caller that uses HTTP/1.0 or TLS counts as disconnected: HTTP/1.0 has no interim responses for a probe, and TLS has no
        half-closed state.
        """
        cycle = self._current
        if self._rejected and self._pending_rejection is None:
            return False
        if cycle is None or cycle.response_complete or self._in_body or self.scheme == "https":
            return False
        if cycle.scope["http_version"] == "1.0":
            return False
        if self._pending_rejection is None:
            cycle.keep_alive = False
        self._probe(cycle, 0)
        return True

    def _probe(self, cycle: RequestCycle, count: int) -> None:
        """Write to a caller repeatedly, with pauses: if the caller has closed both directions of the connection, the second write fails."""
        if cycle.response_complete or cycle.disconnected or self.pipeline or self.transport.is_closing():
            return
        cycle.probe()
        if count < len(PROBE_DELAYS_S):
            self.loop.call_later(PROBE_DELAYS_S[count], self._probe, cycle, count + 1)

    def on_message_begin(self) -> None:
        """Reset the state of the head: the first byte of a request has arrived."""
        self.awaits_head = self.head_begun = True
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """Add a piece of the URL."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header or discard one trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Reject the head, or start its request as soon as the previous response on this connection is complete."""
        self.awaits_head, self.awaited_since, self._head_size = False, 0.0, 0
        version, parser = self.parser.get_http_version(), self.parser
        problem, expects_continue, is_chunked = check_head(self.headers, self.url, version, self._guard.rules)
        if problem is not None:
            raise RejectedRequestError(problem)
        if parser.should_upgrade():
            self.read_offer(version, may_upgrade=not self._is_busy())
            return
        self._in_body = True
        path, raw_path, query = split_url(self.url)
        scope = {
            "type": "http", "asgi": _ASGI, "http_version": version, "method": parser.get_method().decode("ascii"), "scheme": self.scheme,
            "path": path, "raw_path": raw_path, "query_string": query, "root_path": "", "headers": self.headers,
            "server": self.server, "client": self.client, "state": {},
        }  # fmt: skip
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle = RequestCycle(self, scope, keep_alive=keep_alive, expects_continue=expects_continue)
        self._framing = ChunkFraming() if is_chunked else None
        self.headers = self._framing.trailers if self._framing is not None else NO_TRAILERS
        previous, self._current = self._current, cycle
        if previous is None or previous.response_complete:
            self.ready = self._answered = cycle
        else:
            self.flow.pause_reading()
            self.pipeline.append(cycle)

    def begin_handshake(self, version: str) -> RequestCycle:
        """Start the call of a WebSocket handshake, and return its cycle."""
        scope = self.handshake_scope(version)
        cycle = self._current = self._answered = RequestCycle(self, scope, keep_alive=False, expects_continue=False)
        cycle.more_body = False
        cycle.start_task(self.app)
        return cycle

    def on_body(self, body: bytes) -> None:
        """Buffer a piece of the request body, or discard the piece if the response is already complete."""
        cycle = self._current
        if self._framing is not None:
            self._framing.add_body(len(body))
        if cycle is not None and not cycle.response_complete:
            cycle.add_body(body)
            if len(cycle.body) > MAX_BUFFERED_BODY_BYTES:
                self.flow.pause_reading()

    def on_chunk_header(self) -> None:
        """Count a chunk of the request body. `_check_body` checks the rest of the framing after each piece of input."""
        if self._framing is not None:
            self._framing.begin_chunk()

    def on_message_complete(self) -> None:
        """Mark the request as complete. Bytes from now on belong to the next head."""
        self._in_body = False
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.notify()

    def shutdown(self) -> None:
        """Close the connection because the server stops, but only after any response in flight."""
        if self._current is not None and not self._current.response_complete:
            self._current.keep_alive = False
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Start the next pipelined request, read the rest of the body, or send the rejection that waited for this response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._answered = self.pipeline.pop(0)
            self._answered.start_task(self.app)
            return
        self.idle_since = time.monotonic()
        if self._in_body:
            self._read_rest()
        elif self._pending_rejection is not None:
            problem, self._pending_rejection = self._pending_rejection, None
            self.reject(problem)

    def _read_rest(self) -> None:
        """Read more of the body of a request whose response is complete: an immediate close could lose the response."""
        cycle = cast("RequestCycle", self._current)
        cycle.body = b""
        if cycle.keep_alive:
            self._read_on = MAX_READ_ON_BYTES
        elif cycle.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            declared = dict(cycle.scope["headers"]).get(b"content-length", b"0")
            self._discardable += min(int(declared), MAX_TOO_LARGE_LINGER_BYTES)
            self._linger(TOO_LARGE_LINGER_S)
        else:
            self._linger()

    def _linger(self, seconds: float = LINGER_S) -> None:
        """Discard input for a while, then close the connection. An immediate close would reset the connection and lose the response."""
        self._rejected = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(seconds, self.transport.close)

    def _discard(self, size: int) -> None:
        """Count discarded input; abort the connection of a caller that does not stop sending."""
        self._discardable -= size
        if self._discardable < 0:
            self.transport.abort()

    def close_if_overdue(self, now: float, deadline: float) -> None:
        """Close the connection if it has been idle, or has waited for a head, for too long. Send a 408 if part of the head has arrived."""
        if self._rejected or self.transport is None or self.transport.is_closing() or self._is_busy():
            return
        if not self.awaits_head:
            if self.idle_since and now - self.idle_since > (READ_ON_S if self._in_body else KEEP_ALIVE_S):
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
        """Send an error and close the connection. If a complete request is in flight, wait for its response first."""
        self._rejected = True
        cycle = self._current
        if cycle is not None and cycle.response_complete and self._in_body:
            self._linger()  # the response to this request is complete
            return
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
        self.transport.write(error_response(problem))
        self._linger()

    def _is_busy(self) -> bool:
        return self._current is not None and not self._current.response_complete

    def _report_rejection(self, reason: str) -> None:
        if self._on_reject is not None:
            self._on_reject(reason)

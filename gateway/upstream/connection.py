"""One HTTP/1.1 connection: sends requests one at a time, receives the responses, and decides whether it may be reused.

A connection is idle (no exchange), busy (one exchange) or closed. A connection returns to its pool in the read callback that
receives the end of the response. Its socket is closed instead for one of these reasons:

    surplus     bytes after the end of a response or while idle: the next caller could receive another caller's response
    uploading   the response arrived before the request was sent completely
    close       the upstream asked to close, or the end of the connection marks the end of the body
    failure     a parse error, a missed deadline or an abort

gateway.upstream.response_parser checks the contents of the responses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade

from gateway.upstream.deadlines import Clock
from gateway.upstream.response import MAX_REST_BYTES, NativeResponse, StaleConnectionError
from gateway.upstream.response_parser import ResponseParser, has_blank_surplus
from gateway.upstream.stats import TransportStats
from gateway.upstream.tls import lost_before_response
from gateway.upstream.transport import Upload, UpstreamError
from gateway.upstream.upload import PacedUpload
from providers.base import FailureKind

READ_BYTES = 32 * 1024
WRITE_SLICE_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
NO_DEADLINE = float("inf")

# All connections of a process read into this buffer. The read callback parses it and copies what it keeps.
_BUFFER = memoryview(bytearray(READ_BYTES))


class UpstreamConnection(ResponseParser, asyncio.BufferedProtocol):
    """One connection of a pool."""

    __slots__ = (
        "_clock",
        "_on_close",
        "_on_idle",
        "_reading",
        "_stats",
        "_transport",
        "_writable",
        "closed",
        "deadline",
        "has_slot",
        "served",
    )  # fmt: skip

    def __init__(
        self,
        clock: Clock,
        stats: TransportStats,
        on_idle: Callable[[UpstreamConnection], None],
        on_close: Callable[[UpstreamConnection], None],
    ) -> None:
        super().__init__()
        self._clock = clock
        self._stats = stats
        self._on_idle = on_idle
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._reading = True
        self.deadline = NO_DEADLINE
        self.closed = False
        self.has_slot = False
        """Whether the connection occupies a slot of its pool. Cleared exactly once."""
        self.served = 0
        """Exchanges completed."""
        self._begin_response()

    # --- one exchange ---------------------------------------------------------------------------------------------

    def send(self, exchange: NativeResponse, head: bytes, body: bytes) -> asyncio.Future[None]:
        """Send a request. The future completes when the head of the response is in `exchange`, or fails with the reason."""
        exchange.waiter = waiter = asyncio.get_running_loop().create_future()
        self.begin(exchange, head, body)
        return waiter

    def begin(self, exchange: NativeResponse, head: bytes, body: bytes) -> None:
        """Send a request. The listener of `exchange` is called when a part of the response arrives."""
        transport = self._transport
        assert transport is not None
        self._begin_response()
        self._exchange = exchange
        exchange.source = exchange.connection = self
        self.deadline = min(self._clock() + exchange.deadlines.first_byte, exchange.total)
        if len(body) <= WRITE_SLICE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            self._upload = memoryview(body)
            self._write_upload()

    def send_upload(self, exchange: NativeResponse, head: bytes, upload: Upload) -> asyncio.Future[None]:
        """Send a request whose body is sent in pieces. Return a future, as `send` does."""
        waiter = self.send(exchange, head, b"")
        if upload.has_body:
            self._upload = paced = PacedUpload(upload, self)
            paced.start()
        return waiter

    def abort(self) -> None:
        """Close the socket at once. An exchange in progress ends with an error."""
        self._fail("closed_pre" if self._exchange and not self._exchange.status else "truncated", "the attempt was cancelled")

    def finish_within(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for the end of a response that is no longer read."""
        self._set_deadline(timeout_s)
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def prevent_reuse(self) -> None:
        """Close the connection: at once if it is idle, else when the exchange in progress is complete."""
        if self._exchange is None:
            self._poison()
        else:
            self._is_doubtful = True

    def resume(self) -> None:
        """Read the socket again: the reader has taken the buffered data."""
        exchange = self._exchange
        if exchange is not None and not self._reading and self._transport is not None:
            self._reading = True
            self._set_deadline(exchange.deadlines.idle)
            self._transport.resume_reading()

    def expire(self, now: float) -> None:
        """Fail the exchange whose deadline has passed, or close the connection if it is idle."""
        exchange = self._exchange
        if exchange is None:
            self._close()
        else:
            overdue = exchange.timeout_error(now)
            self._fail(overdue.kind, overdue.message)

    def _set_deadline(self, seconds: float) -> None:
        exchange = self._exchange
        if exchange is not None:
            self.deadline = min(self._clock() + seconds, exchange.total)

    def _write_upload(self) -> None:
        """Write slices of the body while the transport accepts them, so that it buffers at most one slice above its limit."""
        transport = self._transport
        while isinstance(self._upload, memoryview) and self._writable and transport is not None and not transport.is_closing():
            piece, rest = self._upload[:WRITE_SLICE_BYTES], self._upload[WRITE_SLICE_BYTES:]
            self._upload = rest if len(rest) else None
            transport.write(piece)

    def write_piece(self, data: bytes) -> None:
        """Write a part of the body, and start the deadline for the upstream to accept it."""
        self._restart_deadline()
        if self._transport is not None:
            self._transport.write(data)

    def await_body(self) -> None:
        """Suspend the deadline while the gateway waits for the next part of the body."""
        if self._exchange is not None and not self._exchange.status:
            self.deadline = self._exchange.total

    def finish_upload(self) -> None:
        """Start the deadline for the response."""
        self._upload = None
        self._restart_deadline()

    def _restart_deadline(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._set_deadline(exchange.deadlines.idle if exchange.status else exchange.deadlines.first_byte)

    def _fail(self, kind: FailureKind, message: str) -> None:
        self.fail_with(UpstreamError(kind, message))

    def fail_with(self, error: Exception) -> None:
        """Close the connection, and end the exchange in progress with `error`, such as a failure to read the request body."""
        exchange, self._exchange = self._exchange, None
        self._close()
        if exchange is not None:
            self._end(exchange, error)

    def _end(self, exchange: NativeResponse, error: Exception | None) -> None:
        """Pass an error to the sender if the head has not arrived, else end the body for its reader."""
        (exchange.end if exchange.status else exchange.fail_head)(error)

    def _close(self, keep_slot: bool = False) -> None:
        self.closed = True
        self._stop_upload()
        self._parser = None
        if self._transport is not None:
            self._transport.abort()
        if keep_slot:
            self.deadline = NO_DEADLINE  # otherwise, `expire` would release the slot before the sender reconnects
        else:
            self._on_close(self)

    # --- the socket -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of the connected socket."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared read buffer."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the bytes that arrived, then wake the reader once."""
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            self._poison()
            return
        self._has_received = True
        data = _BUFFER[:nbytes]
        before = exchange.size
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                kind, message = self._rejection or ("protocol", f"the upstream's response is not valid HTTP: {error}")
                self._fail(kind, message)
                return
            self._is_doubtful = True
        if self._complete:
            self._finish(exchange, data, before)
        elif not exchange.status:
            self._head_size += nbytes
            if self._head_size > MAX_HEAD_BYTES:
                self._fail("protocol", f"the upstream's response headers exceed {MAX_HEAD_BYTES >> 10} KiB")
        else:
            self._progress(exchange, nbytes, before)

    def eof_received(self) -> bool:
        """Close the connection: the upstream closed its side."""
        self._on_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange: the socket is closed."""
        if exc is not None and self._exchange is not None:
            self._read_early_answer()
        self._on_lost(exc)
        self._transport = None

    def _read_early_answer(self) -> None:
        """Read the response to a rejected upload after the upstream closed the connection. The event loop no longer reads the socket."""
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.get_extra_info("sslcontext") is not None:
            return
        try:
            while not self.closed and (size := os.readv(sock.fileno(), [_BUFFER])):
                self.buffer_updated(size)
        except OSError:
            return

    def pause_writing(self) -> None:
        """Stop writing: the upstream reads more slowly than the gateway writes."""
        self._writable = False
        if isinstance(self._upload, PacedUpload):
            self._upload.pause()

    def resume_writing(self) -> None:
        """Continue the upload. For a body in memory, restart the deadline for the response."""
        self._writable = True
        if isinstance(self._upload, PacedUpload):
            self._upload.resume()
        elif self._upload is not None and self._exchange is not None:
            self._set_deadline(self._exchange.deadlines.first_byte)
            self._write_upload()

    def _progress(self, exchange: NativeResponse, nbytes: int, before: int) -> None:
        """Handle part of a body, or the head alone: extend the deadline, apply backpressure, wake the reader."""
        if exchange.discarding:
            if exchange.size > MAX_REST_BYTES:
                self.abort()
            return
        self._set_deadline(exchange.deadlines.idle)
        if exchange.size == before:
            self._framing_bytes += nbytes
            if self._framing_bytes > MAX_HEAD_BYTES * 2:
                self._fail("protocol", "the upstream sent chunk framing without data")
                return
        else:
            self._framing_bytes = 0
        if exchange.collecting and exchange.size <= exchange.limit:
            return
        if exchange.is_overfull() and self._reading and self._transport is not None:
            self._reading = False
            exchange.paused = True
            self.deadline = exchange.total
            self._transport.pause_reading()
        exchange.wake()

    def _finish(self, exchange: NativeResponse, data: memoryview, before: int) -> None:
        """Complete the exchange: return the connection to its pool, or close it."""
        self._exchange = None
        last = exchange.pieces[-1] if exchange.pieces and exchange.size > before and not self._chunked else b""
        unsent = self._upload is not None or (self._transport is not None and self._transport.get_write_buffer_size())
        if self._is_doubtful or unsent or has_blank_surplus(data, last):
            self._poison()
        elif not self._keep_alive:
            self._close()
        else:
            self.served += 1
            if not self._reading and self._transport is not None:
                self._reading = True
                self._transport.resume_reading()
            self._on_idle(self)
        exchange.end(None)

    def _poison(self) -> None:
        if not self.closed:
            self._stats.poisoned += 1
            self._close()

    def _on_lost(self, exc: Exception | None) -> None:
        if self.closed:
            return
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            self._close()
        elif not exchange.status:
            stale = bool(self.served) and not self._has_received
            self._close(keep_slot=stale)
            error: Exception = StaleConnectionError()
            if not stale:
                error = lost_before_response(exc)
            self._end(exchange, error)
        else:
            self._close()
            self._end(exchange, exchange.close_error(exc))

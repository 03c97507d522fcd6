"""One HTTP/1.1 connection: bytes in, one answer at a time out, and the verdict whether it may serve again.

A connection is either idle (no exchange), busy (an exchange) or closed. It goes back to its pool inside the read callback
that saw the end of the answer, unless anything about it is doubtful; then its socket is closed and never seen again:

    surplus     bytes after the end of an answer, or while idle: the next answer could be somebody else's
    uploading   the answer came before the request was sent completely
    close       the upstream said so, or the end of the body is the end of the connection
    failure     anything that did not parse, any deadline, any abort

What a parser finds in the bytes is judged in gateway.upstream.answer_parser.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade

from gateway.upstream.answer_parser import AnswerParser
from gateway.upstream.deadlines import Clock
from gateway.upstream.response import MAX_REST_BYTES, NativeResponse
from gateway.upstream.stats import TransportStats
from gateway.upstream.transport import UpstreamError
from providers.base import FailureKind

READ_BYTES = 32 * 1024
WRITE_SLICE_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
NO_DEADLINE = float("inf")

# All connections of a process read into one buffer: it is parsed, and what is kept of it copied, before the callback returns.
_BUFFER = memoryview(bytearray(READ_BYTES))


class StaleConnectionError(Exception):
    """A reused connection was closed before it answered a single byte: the request was lost in passing and may be sent once more."""


class UpstreamConnection(AnswerParser, asyncio.BufferedProtocol):
    """One socket of a pool."""

    __slots__ = (
        "_clock",
        "_framing_bytes",
        "_has_received",
        "_head_size",
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
        self, clock: Clock, stats: TransportStats, on_idle: Callable[[UpstreamConnection], None], on_close: Callable[[UpstreamConnection], None]
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
        """It has a slot of its pool; cleared once, whoever gets there first."""
        self.served = 0
        """Exchanges completed."""
        self._begin()

    def _begin(self) -> None:
        self._begin_answer()
        self._head_size = 0
        self._framing_bytes = 0
        self._has_received = False

    # --- one exchange ---------------------------------------------------------------------------------------------

    def send(self, exchange: NativeResponse, head: bytes, body: bytes) -> asyncio.Future[None]:
        """Write a request; the future is done when the head of its answer is in `exchange` (or raises why there is none)."""
        transport = self._transport
        assert transport is not None
        self._begin()
        self._exchange = exchange
        exchange.source = exchange.connection = self
        self._set_deadline(exchange.deadlines.first_byte)
        exchange.waiter = waiter = asyncio.get_running_loop().create_future()
        if len(body) <= WRITE_SLICE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            self._upload = memoryview(body)
            self._write_upload()
        return waiter

    def abort(self) -> None:
        """Close the socket at once; an exchange under way ends with an error."""
        self._fail("closed_pre" if self._exchange and not self._exchange.status else "truncated", "the attempt was given up")

    def finish_within(self, timeout_s: float) -> None:
        """Nobody reads the rest: it ends soon, or the deadline ends it."""
        self._set_deadline(timeout_s)
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def prevent_reuse(self) -> None:
        """An answer held what it should not: close, or after the answer that is under way by now."""
        if self._exchange is None:
            self._poison()
        else:
            self._is_doubtful = True

    def resume(self) -> None:
        """The reader took what lay unread: read the socket again."""
        exchange = self._exchange
        if exchange is not None and not self._reading and self._transport is not None:
            self._reading = True
            self._set_deadline(exchange.deadlines.idle)
            self._transport.resume_reading()

    def expire(self, now: float) -> None:
        """The ticker says that the deadline has passed."""
        exchange = self._exchange
        if exchange is None:
            self._close()
        else:
            overdue = exchange.timeout_error(now)
            self._fail(overdue.kind, overdue.message)

    def _set_deadline(self, within: float) -> None:
        exchange = self._exchange
        if exchange is not None:
            self.deadline = min(self._clock() + within, exchange.total)

    def _write_upload(self) -> None:
        """Write on while the transport takes more: at most its buffer and one slice are held at a time."""
        transport = self._transport
        while self._upload is not None and self._writable and transport is not None and not transport.is_closing():
            piece, rest = self._upload[:WRITE_SLICE_BYTES], self._upload[WRITE_SLICE_BYTES:]
            self._upload = rest if len(rest) else None
            transport.write(piece)

    def _fail(self, kind: FailureKind, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._close()
        if exchange is not None:
            self._end(exchange, UpstreamError(kind, message))

    def _end(self, exchange: NativeResponse, error: Exception | None) -> None:
        """Tell whoever waits: the sender by an exception if the head is missing, else the reader."""
        if exchange.status:
            exchange.end(cast("UpstreamError | None", error))
            return
        exchange.ended = True
        exchange.source = None
        if error is not None and exchange.waiter is not None and not exchange.waiter.done():
            exchange.waiter.set_exception(error)

    def _close(self, keep_slot: bool = False) -> None:
        self.closed = True
        self._upload = None
        self._parser = None
        if self._transport is not None:
            self._transport.abort()
        if not keep_slot:
            self._on_close(self)

    # --- the socket -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived: parse them, then wake the reader once for all of them."""
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
                kind, message = self._rejection or ("protocol", f"the upstream's answer is not HTTP: {error}")
                self._fail(kind, message)
                return
            self._is_doubtful = True
        if self._complete:
            self._finish(exchange, data, before)
        elif not exchange.status:
            self._head_size += nbytes
            if self._head_size > MAX_HEAD_BYTES:
                self._fail("protocol", "the upstream's headers are too large")
        else:
            self._progress(exchange, nbytes, before)

    def eof_received(self) -> bool:
        """The upstream has closed its side, so the connection is over."""
        self._on_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if exc is not None and self._exchange is not None:
            self._read_early_answer()
        self._on_lost(exc)
        self._transport = None

    def _read_early_answer(self) -> None:
        """An upload broke: an upstream that refuses early and closes has its answer lying here, which the loop reads no more."""
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
        """The upstream reads slower than we write."""
        self._writable = False

    def resume_writing(self) -> None:
        """The upstream took what we wrote: its time to answer starts anew while there is more to write."""
        self._writable = True
        if self._upload is not None and self._exchange is not None:
            self._set_deadline(self._exchange.deadlines.first_byte)
            self._write_upload()

    def _progress(self, exchange: NativeResponse, nbytes: int, before: int) -> None:
        """Part of a body has arrived (or the head alone)."""
        if exchange.discarding:
            if exchange.size > MAX_REST_BYTES:
                self.abort()
            return
        self._set_deadline(exchange.deadlines.idle)
        if exchange.size == before:
            self._framing_bytes += nbytes
            if self._framing_bytes > MAX_HEAD_BYTES * 2:
                self._fail("protocol", "the upstream sends framing without a body")
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
        """The answer is complete: back to the pool with this connection, or away with it."""
        self._exchange = None
        last = exchange.pieces[-1] if exchange.pieces and exchange.size > before and not self._chunked else b""
        unsent = self._upload is not None or (self._transport is not None and self._transport.get_write_buffer_size())
        if self._is_doubtful or unsent or _has_blank_surplus(data, last):
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
            self._end(exchange, StaleConnectionError() if stale else UpstreamError("closed_pre", "the upstream closed the connection without an answer"))
        else:
            self._close()
            self._end(exchange, exchange.close_error(exc))


def _has_blank_surplus(data: memoryview, last: bytes) -> bool:
    """Blank lines after the end of an answer, which the parser skips silently. `last`: the body's last piece if its end is the end."""
    if last:
        return bytes(data[-len(last) :]) != last  # a memoryview compares item by item
    return bytes(data[-6:]) == b"\r\n\r\n\r\n"

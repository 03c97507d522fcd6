"""A response of the native transport: buffered pieces, then the end or an error, and one future to wait on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.upstream.transport import Deadlines, OnTrailing, UpstreamError, in_seconds

MAX_UNREAD_BYTES = 16 * 1024
"""Unread bytes above which the socket is no longer read."""

REST_TIMEOUT_S = 1.0
MAX_REST_BYTES = 64 * 1024
"""Limits on the data that may follow the last event of a stream. Beyond them the connection is closed."""


class StaleConnectionError(Exception):
    """A reused connection was closed before any byte of the response arrived. The request may be sent once more on a new connection."""


class Source(Protocol):
    """The part of a connection that a response uses."""

    def resume(self) -> None:
        """Read the socket again: the reader has taken the buffered data."""
        ...

    def abort(self) -> None:
        """Close the socket at once."""
        ...

    def finish_within(self, timeout_s: float) -> None:
        """Complete the response in the background within `timeout_s`, because the reader needs nothing more."""
        ...

    def prevent_reuse(self) -> None:
        """Do not use the connection for another request, because the response contained unexpected data."""
        ...


class NativeResponse:
    """The `Response` of the native transport. Its connection fills it from the read callback."""

    __slots__ = (
        "collecting", "connection", "deadlines", "discarding", "ended", "error", "head_error", "headers", "limit", "listener",
        "may_be_encoded", "method", "on_trailing", "paused", "pieces", "size", "source", "started", "status", "total", "waiter",
    )  # fmt: skip

    def __init__(self, method: str, deadlines: Deadlines, total: float, *, may_be_encoded: bool = False) -> None:
        """`may_be_encoded` states whether the reader accepts a compressed body."""
        self.method = method
        self.may_be_encoded = may_be_encoded
        self.deadlines = deadlines
        self.total = total
        """Time on the transport's clock by which the whole attempt must have ended."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.size = 0
        self.started = False
        """Whether a byte of the body has arrived."""
        self.paused = False
        self.ended = False
        self.error: UpstreamError | None = None
        self.collecting = False
        self.discarding = False
        """Whether the rest of the body is discarded."""
        self.limit = 0
        self.waiter: asyncio.Future[None] | None = None
        self.head_error: Exception | None = None
        """The reason why the head of the response did not arrive."""
        self.listener: Callable[[], None] | None = None
        """Called in the read callback whenever a part of the response arrives; without it, a waiter is woken."""
        self.source: Source | None = None
        """The connection, until the response has ended."""
        self.connection: Source | None = None
        """The connection, which may serve another response after this one."""
        self.on_trailing: OnTrailing | None = None

    async def read(self) -> bytes:
        """Return everything that has arrived since the last read, or b"" at the end of the body. Wait only if nothing has arrived."""
        while not self.pieces:
            if self.ended:
                self._check()
                return b""
            await self._wait()
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._take()
        return data

    async def body(self, limit: int) -> bytes:
        """Return the whole body, without suspending if it has arrived. Raise UpstreamError("too_large") if it exceeds `limit` bytes."""
        if not self.ended:
            self.collecting = True
            self.limit = limit
            if self.paused:
                self._resume()
            while not self.ended and self.size <= limit:
                await self._wait()
        if self.size > limit:
            self.close()
            raise UpstreamError("too_large", f"the upstream's response exceeds {limit} bytes")
        self._check()
        data = b"".join(self.pieces)
        self._take()
        return data

    def collect(self, limit: int) -> bytes | None:
        """Return the whole body, or None if it has not arrived: the listener is then called when the body ends.

        The result is also None if the body failed or exceeds `limit` bytes; `body` then raises the error.
        """
        self.collecting, self.limit = True, limit
        if not self.ended or self.error is not None or self.size > limit:
            if self.paused and self.size <= limit:
                self._resume()
            return None
        data = b"".join(self.pieces)
        self._take()
        return data

    def take(self) -> bytes | None:
        """Return the result of `read`, or None if `read` would wait."""
        pieces = self.pieces
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._take()
            return data
        if self.ended:
            self._check()
            return b""
        return None

    def unread(self) -> bytes:
        """Return the received part of a body that was not read to its end."""
        return b"".join(self.pieces)

    def close(self) -> None:
        """Abort the socket of a response that has not ended, unless `finish` was called."""
        if not self.ended and self.source is not None and not self.discarding:
            self.source.abort()
        self.pieces.clear()

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """Stop reading. Reuse the connection if the rest of the response is small and arrives soon, else abort its socket."""
        self.on_trailing = on_trailing
        unread, self.pieces = self.pieces, []
        self.discard(b"".join(unread))
        if not self.ended and self.source is not None:
            self.discarding = True
            self.size = 0
            self.source.finish_within(REST_TIMEOUT_S)
        else:
            self.on_trailing = None

    def discard(self, piece: bytes) -> None:
        """Drop a piece that is no longer read. If it is unexpected, the connection is not reused."""
        if self.on_trailing is not None and self.on_trailing(piece) and self.connection is not None:
            self.connection.prevent_reuse()

    def wake(self) -> None:
        """Wake the reader, or the sender that waits for the head."""
        if self.listener is not None:
            self.listener()
            return
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self, error: Exception | None) -> None:
        """End the body, cleanly if `error` is None."""
        self.ended = True
        if error is not None and not isinstance(error, UpstreamError):
            error = UpstreamError("truncated", "the request body was not sent completely")
        self.error = error
        self.source = self.on_trailing = None
        self.wake()

    def fail_head(self, error: Exception | None) -> None:
        """End a response whose head will not arrive, and pass the reason to its sender."""
        self.ended = True
        self.source = None
        self.head_error = error
        if self.listener is not None:
            self.listener()
        elif error is not None and self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)

    def timeout_error(self, now: float) -> UpstreamError:
        """Return the error for the deadline that has passed."""
        deadlines = self.deadlines
        if now >= self.total:
            return UpstreamError("timeout", f"the upstream did not finish within {in_seconds(deadlines.total)}")
        if not self.status:
            return UpstreamError("header_timeout", f"the upstream did not respond within {in_seconds(deadlines.first_byte)}")
        if not self.started:
            return UpstreamError("ttft_timeout", f"the upstream sent headers, then nothing for {in_seconds(deadlines.idle)}")
        return UpstreamError("stalled", f"the upstream sent nothing for {in_seconds(deadlines.idle)}")

    def close_error(self, reason: Exception | None) -> UpstreamError | None:
        """Return the error of a body whose connection was closed, or None if that is the regular end of the body."""
        if reason is None and not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            return None
        if not self.started:
            return UpstreamError("closed_pre", "the upstream closed the connection after its headers")
        if reason is None:
            return UpstreamError("truncated", "the upstream closed the connection in the middle of its response")
        return UpstreamError("reset", "the upstream reset the connection in the middle of its response")

    def is_overfull(self) -> bool:
        """Return whether more bytes are unread than allowed."""
        return self.size > (self.limit if self.collecting else MAX_UNREAD_BYTES)

    def _check(self) -> None:
        if self.error is not None:
            raise UpstreamError(self.error.kind, self.error.message)

    def _take(self) -> None:
        self.pieces = []
        self.size = 0
        if self.paused:
            self._resume()

    def _resume(self) -> None:
        self.paused = False
        if self.source is not None:
            self.source.resume()

    async def _wait(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

"""One answer as its reader sees it: pieces that have arrived, an end or an error, and at most one future to wait on."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.upstream.transport import Deadlines, OnTrailing, UpstreamError

MAX_UNREAD_BYTES = 16 * 1024
"""Bytes that may lie unread before the socket is read no more."""

REST_TIMEOUT_S = 1.0
MAX_REST_BYTES = 64 * 1024
"""How long and how much may come after the last event of a stream before its connection is given up."""


class Source(Protocol):
    """Where an answer comes from: what the reader asks of its connection."""

    def resume(self) -> None:
        """The reader took what there was."""
        ...

    def abort(self) -> None:
        """Close the socket at once."""
        ...

    def finish_within(self, timeout_s: float) -> None:
        """The reader has what it wants: end by yourself in so many seconds."""
        ...

    def prevent_reuse(self) -> None:
        """The answer held what it should not: serve nobody else."""
        ...


class NativeResponse:
    """The `Response` of the native transport; its connection fills it synchronously from the read callback."""

    __slots__ = (
        "collecting", "connection", "deadlines", "discarding", "ended", "error", "headers", "limit", "method", "on_trailing", "paused",
        "pieces", "size", "source", "started", "status", "total", "waiter",
    )  # fmt: skip

    def __init__(self, method: str, deadlines: Deadlines, total: float) -> None:
        self.method = method
        self.deadlines = deadlines
        self.total = total
        """When the whole attempt must be over, on the transport's clock."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.size = 0
        self.started = False
        """A byte of the body has arrived."""
        self.paused = False
        self.ended = False
        self.error: UpstreamError | None = None
        self.collecting = False
        self.discarding = False
        """What still comes is of no interest."""
        self.limit = 0
        self.waiter: asyncio.Future[None] | None = None
        self.source: Source | None = None
        """Its connection, until the answer has ended."""
        self.connection: Source | None = None
        """Its connection, which may carry another answer since."""
        self.on_trailing: OnTrailing | None = None

    async def read(self) -> bytes:
        """All that has arrived since the last read, at once if there is anything; b"" at the clean end."""
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
        """The whole body without a suspension if it is here; UpstreamError("too_large") beyond `limit` bytes."""
        if not self.ended:
            self.collecting = True
            self.limit = limit
            if self.paused:
                self._resume()
            while not self.ended and self.size <= limit:
                await self._wait()
        if self.size > limit:
            self.close()
            raise UpstreamError("too_large", f"the upstream's answer is larger than {limit} bytes")
        self._check()
        data = b"".join(self.pieces)
        self._take()
        return data

    def unread(self) -> bytes:
        """What came of a body that was not read to its end."""
        return b"".join(self.pieces)

    def close(self) -> None:
        """Done: an answer that has not ended has its socket aborted at once, unless it was finished."""
        if not self.ended and self.source is not None and not self.discarding:
            self.source.abort()
        self.pieces.clear()

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """All that matters was read: the connection is kept if the rest ends soon and is small, else its socket is aborted."""
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
        """What nobody reads any more: if it should not have come, the connection is not used again."""
        if self.on_trailing is not None and self.on_trailing(piece) and self.connection is not None:
            self.connection.prevent_reuse()

    def wake(self) -> None:
        """Something changed: let the reader (or the sender, waiting for the head) look."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self, error: UpstreamError | None) -> None:
        """No more will come: clean when `error` is None."""
        self.ended = True
        self.error = error
        self.source = self.on_trailing = None
        self.wake()

    def timeout_error(self, now: float) -> UpstreamError:
        """Which deadline has passed."""
        deadlines = self.deadlines
        if now >= self.total:
            return UpstreamError("timeout", f"the upstream did not finish within {deadlines.total:g} s")
        if not self.status:
            return UpstreamError("header_timeout", f"the upstream did not answer within {deadlines.first_byte:g} s")
        if not self.started:
            return UpstreamError("ttft_timeout", f"the upstream sent headers, then nothing for {deadlines.idle:g} s")
        return UpstreamError("stalled", f"the upstream fell silent for {deadlines.idle:g} s")

    def close_error(self, reason: Exception | None) -> UpstreamError | None:
        """What the end of the connection means for a body under way: None when that is how it ends."""
        if reason is None and not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            return None
        if not self.started:
            return UpstreamError("closed_pre", "the upstream closed the connection after its headers")
        if reason is None:
            return UpstreamError("truncated", "the upstream closed the connection in the middle of its answer")
        return UpstreamError("reset", "the upstream reset the connection in the middle of its answer")

    def is_overfull(self) -> bool:
        """More is unread than may be."""
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

"""Two connections joined after a WebSocket handshake: bytes go both ways, at the pace of the slower side.

Frames, including pings, pass unchanged. The gateway adds a frame only to close both connections itself, and never
within another frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Literal

from gateway.streams.frames import GOING_AWAY, POLICY_VIOLATION, SERVICE_RESTART, FrameReader, close_frame

CLOSE_TIMEOUT_S = 5.0
"""Maximum time for both sides to close, once one side has closed or the gateway has sent its close frames."""

Outcome = Literal["ok", "caller", "caller_stalled", "idle", "drain", "limit", "truncated", "reset", "stalled"]
"""The end of a tunnel.

`limit`: a limit is used up. `caller`: the caller disconnected without a close frame. `truncated`, `reset` and `stalled`:
the upstream failed.
"""


class End(asyncio.Protocol):
    """The connection to one side. It passes the data that it receives to the other side."""

    __slots__ = (
        "_farewell", "_is_shut", "_on_lost", "_tunnel", "has_ended", "is_lost", "other", "paused_since", "reader", "size", "transport",
    )  # fmt: skip

    def __init__(
        self,
        tunnel: Tunnel,
        transport: asyncio.Transport,
        reader: FrameReader,
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        """`on_lost` is called when the connection is closed."""
        self.transport = transport
        self.reader = reader
        self.other: End
        self.size = 0
        """Bytes received."""
        self.has_ended = False
        """Whether this side sends nothing more."""
        self.is_lost = False
        self.paused_since = 0.0
        """Time at which this side stopped accepting data; 0 while it accepts data."""
        self._tunnel = tunnel
        self._on_lost = on_lost
        self._farewell: bytes | None = None
        """A close frame for the other side, to be sent after the current frame."""
        self._is_shut = False
        """Whether the gateway has sent the other side a close frame, after which nothing may follow."""

    def data_received(self, data: bytes) -> None:
        """Pass the data to the other side."""
        self._tunnel.has_moved = True
        self.size += len(data)
        if self._farewell is not None or self._is_shut:
            self._close_after_frame(data)
            return
        self.reader.feed(data)
        if not self.other.is_lost:
            self.other.transport.write(data)
        elif self.reader.is_closed:
            self.transport.close()

    def say_farewell(self, frame: bytes) -> None:
        """Send the other side a close frame as soon as any frame that this side is sending is complete."""
        if self.reader.is_closed or self._is_shut or self.other.is_lost:
            return
        self._farewell = frame
        self._close_after_frame(b"")

    def _close_after_frame(self, data: bytes) -> None:
        at = 0
        if self._farewell is not None:
            if not self.reader.is_between_frames:
                at = self.reader.read_frame(data, 0) if data else 0
                self.other.transport.write(data[:at])
            if self.reader.is_between_frames:
                self.other.transport.write(self._farewell)
                self._farewell, self._is_shut = None, True
        self.reader.feed(data[at:])
        if self._is_shut and self.reader.is_closed:
            self.transport.close()

    def pause_writing(self) -> None:
        """Read no more from the other side until this side accepts data again."""
        self.paused_since = time.monotonic()
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        self.paused_since = 0.0
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """End the other side's input as well. The other side may still send, except over TLS, which has no half-closed state."""
        self.has_ended = self._tunnel.has_moved = True
        other = self.other
        self._tunnel.begin_closing(self)
        if other.has_ended or _is_secure(self.transport) or (self.reader.is_closed and other.reader.is_closed):
            other.finish()
            return False
        if _is_secure(other.transport):
            other.finish()
            return True
        if not other.transport.is_closing():
            _write_eof(other.transport)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side once all data that this side received has been sent to it."""
        self.is_lost = True
        self._tunnel.begin_closing(self, exc)
        self._on_lost(exc)
        self.other.finish()
        self._tunnel.check_done()

    def finish(self) -> None:
        """Close this side once all data for it has been sent. If that data includes a close frame, wait for the answer to this frame.

        If this side is still sending, an immediate close would reset its connection, and the close frame could be lost.
        """
        if self.is_lost or self.transport.is_closing():
            return
        has_close_frame = self.other.reader.is_closed or self.other._is_shut
        if self.reader.is_closed or self.has_ended or not has_close_frame:
            self.transport.close()
        elif not _is_secure(self.transport):
            _write_eof(self.transport)


class Tunnel:
    """The pair of connections, and the outcome of the tunnel."""

    def __init__(self, idle_s: float, stall_s: float) -> None:
        """`idle_s`: maximum seconds without data; `stall_s`: maximum seconds for which a side accepts no data."""
        self.has_moved = True
        self.outcome: Outcome | None = None
        """None while both sides are open."""
        self.caller: End
        self.upstream: End
        self._idle_s = idle_s
        self._stall_s = stall_s
        self._active_at = 0.0
        self._closing_at = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def join(self, caller: End, upstream: End) -> None:
        """Connect the two sides with each other."""
        self.caller, self.upstream = caller, upstream
        caller.other, upstream.other = upstream, caller

    async def run(self) -> None:
        """Wait until both connections are closed. If the wait is cancelled, close both connections at once."""
        try:
            await self._done
        finally:
            self.abort()

    def begin_closing(self, end: End, exc: Exception | None = None) -> None:
        """Record which side ended first, and start the timeout of the other side."""
        if self.outcome is None:
            if self.caller.reader.is_closed or self.upstream.reader.is_closed:
                self.outcome = "ok"
            elif end is self.caller:
                self.outcome = "caller"
            else:
                self.outcome = "truncated" if exc is None else "reset"
        if not self._closing_at:
            self._closing_at = time.monotonic()

    def go_away(self, outcome: Outcome = "drain", told: str = "") -> None:
        """Send both sides a close frame. `told` replaces the reason in the caller's close frame."""
        if self.outcome is not None:
            return
        if not (self.caller.reader.is_closed or self.upstream.reader.is_closed):
            self.outcome = outcome
        code, reason = GOING_AWAY, "no frames for too long"
        if outcome == "drain":
            code, reason = SERVICE_RESTART, "the gateway is restarting"
        elif outcome == "limit":
            code, reason = POLICY_VIOLATION, "a limit of the gateway is used up"
        self._closing_at = time.monotonic()
        self.upstream.say_farewell(close_frame(code, told or reason, masked=False))
        self.caller.say_farewell(close_frame(GOING_AWAY, reason, masked=True))

    def check_done(self) -> None:
        """End the tunnel if both connections are closed."""
        if self.caller.is_lost and self.upstream.is_lost and not self._done.done():
            self._done.set_result(None)

    def abort(self) -> None:
        """Close both connections at once."""
        for end in (self.caller, self.upstream):
            if not end.is_lost:
                with contextlib.suppress(RuntimeError):
                    end.transport.abort()

    def sweep(self, now: float) -> None:
        """Check the deadlines."""
        if self.has_moved:
            self.has_moved, self._active_at = False, now
        if self._closing_at:
            if now - self._closing_at > CLOSE_TIMEOUT_S:
                self.abort()
        elif self._is_stalled(self.caller, now):
            self.outcome = "caller_stalled"
            self.abort()
        elif self._is_stalled(self.upstream, now):
            self.outcome = "stalled"
            self.abort()
        elif now - self._active_at > self._idle_s:
            self.go_away("idle")

    def _is_stalled(self, end: End, now: float) -> bool:
        return bool(end.paused_since) and now - end.paused_since > self._stall_s


def _write_eof(transport: asyncio.Transport) -> None:
    """End the output. Ignore the error that a reset connection raises, possibly before `connection_lost` is called."""
    with contextlib.suppress(OSError):
        transport.write_eof()


def _is_secure(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is not None

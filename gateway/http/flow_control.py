"""Flow control of a caller's connection: pauses its reading, and the senders while the transport accepts no more data."""

from __future__ import annotations

import asyncio


class FlowControl:
    """The state of one transport. Its event exists only while writing is paused, because an idle event takes 0.8 KB."""

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._writable: asyncio.Event | None = None

    async def drain(self) -> None:
        """Wait until the transport accepts more data."""
        if self._writable is not None:
            await self._writable.wait()

    def pause_reading(self) -> None:
        """Stop reading, if that has not happened yet."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, if reading is paused."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Suspend senders, because the buffer of the transport is full."""
        if not self.write_paused:
            self.write_paused = True
            self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Resume the senders that wait."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None

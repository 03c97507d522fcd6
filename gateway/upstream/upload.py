"""Sends a request body piece by piece while the connection waits for the response, at the pace of the slower side."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.upstream.transport import Upload, UpstreamError

LAST_CHUNK = b"0\r\n\r\n"


class Sink(Protocol):
    """The part of a connection that a paced upload uses."""

    def write_piece(self, data: bytes) -> None:
        """Write a part of the body, and start the deadline for the upstream to accept it."""
        ...

    def await_body(self) -> None:
        """Suspend the deadline, because the gateway waits for the body and not for the upstream."""
        ...

    def finish_upload(self) -> None:
        """Start the deadline for the response, because the body has been sent."""
        ...

    def fail_with(self, error: Exception) -> None:
        """End the exchange with an error, because the body will never be complete."""
        ...


class PacedUpload:
    """One upload in progress.

    The connection pauses the upload while the upstream accepts no more bytes, and stops the upload when the exchange ends.
    """

    def __init__(self, source: Upload, sink: Sink) -> None:
        self._source = source
        self._sink = sink
        self._left = source.length
        """Bytes still to be sent; None if the size is unknown."""
        self._writable: asyncio.Event = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()

    def pause(self) -> None:
        """Pause the upload, because the upstream reads more slowly than the gateway writes."""
        self._writable.clear()

    def resume(self) -> None:
        """Continue the upload."""
        self._writable.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._writable.wait()
                self._sink.await_body()
                piece = await self._source.read()
                if not piece:
                    break
                self._sink.write_piece(self._frame(piece))
            if self._left:
                raise UpstreamError("protocol", "the request body ended before its declared size")
            if self._left is None:
                self._sink.write_piece(LAST_CHUNK)
        except Exception as error:  # an error of the source ends the exchange, and the sender raises it
            self._task = None  # closing the connection must not cancel this task
            self._sink.fail_with(error)
        else:
            self._sink.finish_upload()

    def _frame(self, piece: bytes) -> bytes:
        if self._left is None:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        self._left -= len(piece)
        if self._left < 0:
            raise UpstreamError("protocol", "the request body exceeds its declared size")
        return piece

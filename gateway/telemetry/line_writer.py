"""Writes lines to a file descriptor so that a full disk leaves no half line behind."""

from __future__ import annotations

import os


class LineWriter:
    """Writes complete lines. Lines that cannot be written are dropped and counted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        """The rest of a line whose beginning was written. It is written before any other line."""
        self.dropped = 0

    def write(self, lines: bytes) -> None:
        """Write complete lines. After an error, such as a full disk, drop the lines of which no byte was written."""
        data = self._rest + lines
        written = self._write(data)
        end = data.find(b"\n", written - 1) + 1 if written else len(self._rest)
        self._rest = data[written:end]
        self.dropped += data.count(b"\n", end)

    def _write(self, data: bytes) -> int:
        """Return the number of bytes that could be written."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError:
                break
        return len(data) - len(view)

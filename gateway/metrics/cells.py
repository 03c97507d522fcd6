"""The storage of the counters: an array of 64-bit integers, in memory or in a file that outlives the process.

If a worker is killed, its counts are not lost, because its supervisor reads the file. The file is mapped into memory. A
second file next to it has one JSON line per series, with the cells of the series. A line is written before its series is
first counted.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import msgspec

from gateway.metrics.declarations import Labels

CELL_COUNT = 1 << 15
"""Default number of cells. They take 256 KiB, most of which is never used."""
CELL_BYTES = 8
NAMES_SUFFIX = ".names"


class Row(msgspec.Struct, array_like=True):
    """One series: metric family, label values, index of its first cell, and number of its cells."""

    family: str
    labels: Labels
    first: int
    width: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode


class Cells:
    """An array of integer cells. Code that runs for every call writes to `values` directly."""

    def __init__(self, path: Path | None = None, size: int = CELL_COUNT) -> None:
        """Keep the cells in the file `path`, or in memory if `path` is None."""
        self._used = 0
        self._size = size
        self._names_fd = -1
        if path is None:
            self.values = memoryview(bytearray(size * CELL_BYTES)).cast("q")
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, size * CELL_BYTES)
        self.values = memoryview(mmap.mmap(descriptor, size * CELL_BYTES)).cast("q")
        os.close(descriptor)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._names_fd = os.open(f"{path}{NAMES_SUFFIX}", flags, 0o600)

    def take(self, family: str, labels: Labels, width: int) -> int:
        """Reserve `width` cells, all 0, and return the index of the first. Return -1 if there is no room."""
        first = self._used
        if first + width > self._size:
            return -1
        self._used += width
        if self._names_fd >= 0:
            os.write(self._names_fd, _encode(Row(family, labels, first, width)) + b"\n")
        return first

    def close(self) -> None:
        """Stop recording new series in the file. The cells stay usable."""
        if self._names_fd >= 0:
            os.close(self._names_fd)
            self._names_fd = -1


def read_rows(path: Path) -> list[tuple[Row, list[int]]]:
    """Return the series kept at `path` by another process, running or dead.

    Return an empty list if the files do not exist.
    """
    try:
        names, values = Path(f"{path}{NAMES_SUFFIX}").read_bytes(), memoryview(path.read_bytes()).cast("q")
    except OSError:
        return []
    # a last line without a line break was cut off when the process was killed
    rows = [_decode(line) for line in names.splitlines(keepends=True) if line.endswith(b"\n")]
    return [
        (row, values[row.first : row.first + row.width].tolist())
        for row in rows
        if row.first + row.width <= len(values)
    ]


def remove(path: Path) -> None:
    """Delete the files at `path`."""
    path.unlink(missing_ok=True)
    Path(f"{path}{NAMES_SUFFIX}").unlink(missing_ok=True)

"""Where counters are: 64-bit integers in a row, in this process's memory or in a file that outlives it.

A worker that is killed loses nothing that it had counted: its supervisor reads the file. The file of cells is mapped into memory; beside
it a list of JSON lines says which cells belong to which series. A series is written down before its first count.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import msgspec

from gateway.metrics.table import Labels

CELLS = 1 << 15
"""Cells at first in memory, and always in a file: 256 KiB, most of which is never touched."""
WIDTH = 8
NAMES = ".names"


class Row(msgspec.Struct, array_like=True):
    """One series: where its cells begin, and how many there are."""

    family: str
    labels: Labels
    at: int
    width: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode


class Cells:
    """Integers by position; `values` is what the hot path writes to."""

    def __init__(self, path: Path | None = None, size: int = CELLS) -> None:
        """Without a `path` the cells end with the process."""
        self._used = 0
        self._size = size
        self._names = -1
        if path is None:
            self.values = memoryview(bytearray(size * WIDTH)).cast("q")
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, size * WIDTH)
        self.values = memoryview(mmap.mmap(descriptor, size * WIDTH)).cast("q")
        os.close(descriptor)
        self._names = os.open(f"{path}{NAMES}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def take(self, family: str, labels: Labels, width: int) -> int:
        """The position of `width` new cells, all 0; -1 when there is no room."""
        at = self._used
        if at + width > self._size:
            return -1
        self._used += width
        if self._names >= 0:
            os.write(self._names, _encode(Row(family, labels, at, width)) + b"\n")
        return at

    def close(self) -> None:
        """Write down no more series; the cells stay where they are."""
        if self._names >= 0:
            os.close(self._names)
            self._names = -1


def read_rows(path: Path) -> list[tuple[Row, list[int]]]:
    """The series that a process keeps, or kept, at `path`; none when it has not begun."""
    try:
        names, values = Path(f"{path}{NAMES}").read_bytes(), memoryview(path.read_bytes()).cast("q")
    except OSError:
        return []
    rows = [_decode(line) for line in names.splitlines(keepends=True) if line.endswith(b"\n")]
    return [(row, values[row.at : row.at + row.width].tolist()) for row in rows if row.at + row.width <= len(values)]


def remove(path: Path) -> None:
    """Forget what is kept at `path`."""
    path.unlink(missing_ok=True)
    Path(f"{path}{NAMES}").unlink(missing_ok=True)

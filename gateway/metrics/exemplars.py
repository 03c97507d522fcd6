"""Trace exemplars of the call duration histogram: the latest traced call of each bucket.

An exemplar takes four cells: the two halves of the trace id, the duration in ns, and the time in ms.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import NamedTuple

from gateway.metrics.declarations import SOURCES

FAMILY = "exemplars"
"""The family name of the cells that hold exemplars."""
SOURCE = "duration"
"""The histogram source whose buckets have exemplars."""
CELLS_EACH = 4
BUCKETS = SOURCES[SOURCE].buckets
WIDTH = CELLS_EACH * (len(BUCKETS) + 1)
_HALF = 1 << 64


class TraceExemplar(NamedTuple):
    """One exemplar: trace id, duration in seconds, Unix time in seconds."""

    trace_id: str
    value: float
    time: float


def put(values: memoryview, first: int, trace_id: str, seconds: float) -> None:
    """Store a call as the exemplar of its bucket, in place of an earlier one. `first` is the first cell of the series."""
    cell = first + CELLS_EACH * bisect_left(BUCKETS, seconds)
    values[cell] = _signed(trace_id[:16])
    values[cell + 1] = _signed(trace_id[16:])
    values[cell + 2] = int(seconds * 1e9)
    values[cell + 3] = time.time_ns() // 1_000_000


def newest(first: list[int], second: list[int]) -> list[int]:
    """Return the later exemplar of each bucket."""
    merged: list[int] = []
    for start in range(0, WIDTH, CELLS_EACH):
        later = first if first[start + 3] >= second[start + 3] else second
        merged += later[start : start + CELLS_EACH]
    return merged


def read(cells: list[int]) -> list[TraceExemplar | None]:
    """Return the exemplar of each bucket, or None for a bucket without an exemplar."""
    rows = [cells[start : start + CELLS_EACH] for start in range(0, WIDTH, CELLS_EACH)]
    return [
        TraceExemplar(f"{high % _HALF:016x}{low % _HALF:016x}", ns / 1e9, ms / 1000) if ms else None
        for high, low, ns, ms in rows
    ]


def _signed(text: str) -> int:
    number = int(text, 16)
    return number - _HALF if number >= _HALF // 2 else number

"""The last traced call of each bucket of a call's duration: four cells (the trace's id in two, the duration in ns, when in ms)."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import NamedTuple

from gateway.metrics.table import SOURCES

FAMILY, OF = "exemplars", "duration"
"""The family that its cells are kept under, and the source whose buckets they belong to."""
EACH = 4
BUCKETS = SOURCES[OF].buckets
WIDTH = EACH * (len(BUCKETS) + 1)
_HALF = 1 << 64


class Shown(NamedTuple):
    """One exemplar: a trace's id, seconds, and unix seconds."""

    trace_id: str
    value: float
    at: float


def put(values: memoryview, at: int, trace_id: str, seconds: float) -> None:
    """Keep a call in the cells that begin at `at`."""
    at += EACH * bisect_left(BUCKETS, seconds)
    values[at] = _signed(trace_id[:16])
    values[at + 1] = _signed(trace_id[16:])
    values[at + 2] = int(seconds * 1e9)
    values[at + 3] = time.time_ns() // 1_000_000


def newest(one: list[int], other: list[int]) -> list[int]:
    """Of each bucket the later one."""
    found: list[int] = []
    for at in range(0, WIDTH, EACH):
        later = one if one[at + 3] >= other[at + 3] else other
        found += later[at : at + EACH]
    return found


def read(cells: list[int]) -> list[Shown | None]:
    """By bucket."""
    rows = [cells[at : at + EACH] for at in range(0, WIDTH, EACH)]
    return [Shown(f"{high % _HALF:016x}{low % _HALF:016x}", ns / 1e9, ms / 1000) if ms else None for high, low, ns, ms in rows]


def _signed(text: str) -> int:
    number = int(text, 16)
    return number - _HALF if number >= _HALF // 2 else number

"""The series of a process at one moment, and how those of several become one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.metrics import exemplars
from gateway.metrics.cells import read_rows
from gateway.metrics.table import COUNTERS, GAUGES, MICRO, NONE, OTHER, SOURCES, Labels

Snapshot = dict[str, dict[Labels, list[int]]]
"""Cells by family and label values."""

LOST = (OTHER, NONE, NONE, OTHER, "5xx", "worker_lost")
"""How calls are counted that a worker was answering when it was killed."""
ABSENT = -(1 << 63)
"""A gauge's cell that has no value now."""


def read_file(path: Path) -> Snapshot:
    """What a worker keeps at `path`, whether it runs or has ended."""
    found: Snapshot = {}
    for row, cells in read_rows(path):
        found.setdefault(row.family, {})[row.labels] = cells
    return found


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """All of them together: counts are sums, gauges follow their rule."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, rows in snapshot.items():
            sums = total.setdefault(name, {})
            for labels, cells in rows.items():
                known = sums.get(labels)
                sums[labels] = list(cells) if known is None else _together(name, known, cells)
    return total


def _together(name: str, one: list[int], other: list[int]) -> list[int]:
    if name == exemplars.FAMILY:
        return exemplars.newest(one, other)
    if name not in GAUGES:
        return [a + b for a, b in zip(one, other, strict=True)]
    if one[0] == ABSENT or other[0] == ABSENT:
        return other if one[0] == ABSENT else one
    rule = GAUGES[name][2]
    return [sum((one[0], other[0])) if rule == "sum" else max(one[0], other[0]) if rule == "max" else min(one[0], other[0])]


def only_counts(snapshot: Snapshot) -> Snapshot:
    """Its counters and histograms."""
    return {name: rows for name, rows in snapshot.items() if name in COUNTERS or name in SOURCES}


def only_gauges(snapshot: Snapshot) -> Snapshot:
    """Its gauges."""
    return {name: rows for name, rows in snapshot.items() if name in GAUGES}


def after_end(snapshot: Snapshot) -> Snapshot:
    """What of a process stays true once it has ended; calls that it never finished count as lost."""
    found = only_counts(snapshot)
    (lost,) = snapshot.get("lockgate_requests_in_flight", {}).get((), [0])
    return merge([found, {"lockgate_requests": {LOST: [lost // MICRO]}}]) if lost > 0 else found

"""Reads, filters and merges snapshots. A snapshot is the series of one or several processes at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.metrics import exemplars
from gateway.metrics.cells import read_rows
from gateway.metrics.declarations import COUNTERS, GAUGES, MICRO, NONE, OTHER, SOURCES, Labels

Snapshot = dict[str, dict[Labels, list[int]]]
"""Cells by family and label values."""

LOST_CALL = (OTHER, NONE, NONE, OTHER, "5xx", "worker_lost")
"""Labels of lockgate_requests for calls that were in flight in a worker that was killed."""
ABSENT = -(1 << 63)
"""The cell value of a gauge that currently has no value."""


def read_file(path: Path) -> Snapshot:
    """Read the series that a worker keeps at `path`. The worker may be running or dead."""
    snapshot: Snapshot = {}
    for row, cells in read_rows(path):
        snapshot.setdefault(row.family, {})[row.labels] = cells
    return snapshot


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Merge snapshots: counts are added, each gauge is merged by its rule in GAUGES, and later exemplars replace earlier ones."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, rows in snapshot.items():
            merged = total.setdefault(name, {})
            for labels, cells in rows.items():
                known = merged.get(labels)
                merged[labels] = list(cells) if known is None else _merge_cells(name, known, cells)
    return total


def _merge_cells(name: str, first: list[int], second: list[int]) -> list[int]:
    if name == exemplars.FAMILY:
        return exemplars.newest(first, second)
    if name not in GAUGES:
        return [a + b for a, b in zip(first, second, strict=True)]
    if first[0] == ABSENT or second[0] == ABSENT:
        return second if first[0] == ABSENT else first
    rule = GAUGES[name][2]
    if rule == "sum":
        return [first[0] + second[0]]
    return [max(first[0], second[0]) if rule == "max" else min(first[0], second[0])]


def only_counts(snapshot: Snapshot) -> Snapshot:
    """Return the counters and histograms of a snapshot."""
    return {name: rows for name, rows in snapshot.items() if name in COUNTERS or name in SOURCES}


def only_gauges(snapshot: Snapshot) -> Snapshot:
    """Return the gauges of a snapshot."""
    return {name: rows for name, rows in snapshot.items() if name in GAUGES}


def after_end(snapshot: Snapshot) -> Snapshot:
    """Return the series that stay valid after the process has ended; its calls in flight are counted as lost."""
    counts = only_counts(snapshot)
    (lost,) = snapshot.get("lockgate_requests_in_flight", {}).get((), [0])
    return merge([counts, {"lockgate_requests": {LOST_CALL: [lost // MICRO]}}]) if lost > 0 else counts

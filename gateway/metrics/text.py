"""Writes a snapshot in the Prometheus text format or in OpenMetrics. prometheus-client does the formatting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as write_openmetrics

from gateway.metrics import exemplars
from gateway.metrics.declarations import COUNTERS, GAUGES, HISTOGRAMS, MICRO, SCALES, SOURCES, Labels, View
from gateway.metrics.snapshot import ABSENT, Snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"


class _Families:
    """Metric families of a snapshot, in the form of a prometheus-client registry."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        """Yield every family of the table; those without samples still have their help and type."""
        for family in self._families():
            yield family
            time.sleep(0)  # release the GIL: the event loop runs in another thread

    def _families(self) -> Iterator[Any]:
        snapshot = self._snapshot
        for name, (text, names) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=names)
            scale = SCALES.get(name)
            for labels, (value,) in snapshot.get(name, {}).items():
                counter.add_metric(labels, value if scale is None else value / scale)
            yield counter
        for name, (text, names, _) in GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=names)
            for labels, (value,) in snapshot.get(name, {}).items():
                if value != ABSENT:
                    gauge.add_metric(labels, value / MICRO)
            yield gauge
        for name, view in HISTOGRAMS.items():
            yield _histogram(name, view, snapshot)


def _histogram(name: str, view: View, snapshot: Snapshot) -> HistogramMetricFamily:
    """Build one histogram: add up the rows of its source by the labels that the view shows."""
    source = SOURCES[view.source]
    indices = [source.labels.index(label) for _, label in view.labels]
    sums: dict[Labels, list[int]] = {}
    for labels, cells in snapshot.get(view.source, {}).items():
        key = tuple(labels[index] for index in indices)
        known = sums.get(key)
        sums[key] = cells if known is None else [a + b for a, b in zip(known, cells, strict=True)]
    examples = _examples(snapshot, indices) if view.source == exemplars.SOURCE else {}
    family = HistogramMetricFamily(name, view.text, labels=[shown for shown, _ in view.labels])
    bounds = [*map(str, source.buckets), "+Inf"]
    for key, cells in sums.items():
        if not any(cells):
            continue
        total = 0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        by_bucket = examples.get(key) or [None] * len(bounds)
        for bound, count, example in zip(bounds, cells, by_bucket, strict=False):
            total += count
            if example is None:
                buckets.append((bound, total))
            else:
                buckets.append((bound, total, Exemplar({"trace_id": example.trace_id}, example.value, example.time)))
        family.add_metric(key, buckets, cells[-1] * source.scale)
    return family


def _examples(snapshot: Snapshot, indices: list[int]) -> dict[Labels, list[exemplars.TraceExemplar | None]]:
    """Return the exemplar of each bucket, by the labels that the view shows."""
    newest: dict[Labels, list[int]] = {}
    for labels, cells in snapshot.get(exemplars.FAMILY, {}).items():
        key = tuple(labels[index] for index in indices)
        newest[key] = exemplars.newest(newest[key], cells) if key in newest else cells
    return {key: exemplars.read(cells) for key, cells in newest.items()}


def openmetrics(snapshot: Snapshot) -> bytes:
    """Return a snapshot in the OpenMetrics 1.0 format, which can contain exemplars."""
    text: bytes = write_openmetrics(_Families(snapshot))  # type: ignore[no-untyped-call]
    return text


def classic(snapshot: Snapshot) -> bytes:
    """Return a snapshot in the Prometheus text format 0.0.4."""
    return generate_latest(_Families(snapshot))

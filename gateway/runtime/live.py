"""The last 15 minutes of this instance, for the page of the admin listener: calls, errors, tokens, cost and latency over time.

Every STEP_S seconds a sample of the counters is taken, and every MOMENT_S seconds a copy of the metrics that the alerts
and `shares` need. Samples are also taken while no page is open, so that a page has a history from the start.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec

from gateway.metrics import Metrics
from gateway.metrics.declarations import MICRO, SCALES, SOURCES
from gateway.metrics.quantile import INFINITE, quantile
from gateway.metrics.snapshot import Snapshot
from gateway.runtime.alerts import FAMILIES, Alerts, Moment

STEP_S = 3.0
WINDOW_S = 15 * 60.0
MOMENT_S = 15.0
COLUMNS = (
    "at", "seconds", "calls", "errors", "refused", "prompt_tokens", "output_tokens", "cost_usd", "first_token_p50_ms", "first_token_p95_ms",
)  # fmt: skip
"""The values of an interval: the time of its end (seconds since the epoch), its length, and its counts, cost and latencies."""
Point = tuple[float | None, ...]
_BUCKETS = SOURCES["first_token"].buckets
_SAMPLED = frozenset({"lockgate_requests", "lockgate_tokens", "lockgate_cost_usd", "first_token"})
_IN_FLIGHT = ("lockgate_requests_in_flight", "lockgate_streams_in_flight")


class Sample(msgspec.Struct, frozen=True):
    """Totals since the start, at one time (seconds since the epoch). Cost is in nano-dollars."""

    at: float
    calls: int
    errors: int
    """Calls that ended with a 5xx."""
    refused: int
    """Calls that ended with a 4xx, except calls whose caller disconnected."""
    prompt: int
    output: int
    cost: int
    first_token: tuple[int, ...]
    """Streams by time to first token: one count per bucket, and one for longer times."""


def sample_of(rows: Snapshot, at: float) -> Sample:
    """Return the totals of these rows."""
    statuses: dict[str, int] = {}
    for labels, (count, *_) in rows.get("lockgate_requests", {}).items():
        statuses[labels[4]] = statuses.get(labels[4], 0) + count
    tokens = {"prompt": 0, "output": 0}
    for labels, (count, *_) in rows.get("lockgate_tokens", {}).items():
        if labels[2] in tokens:
            tokens[labels[2]] += count
    first = [0] * (len(_BUCKETS) + 1)
    for cells in rows.get("first_token", {}).values():
        first = [known + count for known, count in zip(first, cells, strict=False)]
    cost = sum(cells[0] for cells in rows.get("lockgate_cost_usd", {}).values())
    calls = sum(statuses.values())
    return Sample(at, calls, statuses.get("5xx", 0), statuses.get("4xx", 0), tokens["prompt"], tokens["output"], cost, tuple(first))


def point_of(before: Sample, now: Sample) -> Point:
    """Return the values for the interval between two samples, in the order of COLUMNS."""
    low, high = _quantiles(before, now)
    counts = (max(0, getattr(now, name) - getattr(before, name)) for name in ("calls", "errors", "refused", "prompt", "output"))
    cost = max(0, now.cost - before.cost) / SCALES["lockgate_cost_usd"]
    return (now.at, round(now.at - before.at, 3), *counts, cost, low, high)


class LiveSeries:
    """Samples of one instance, with the sums over all its processes."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        self._last: Sample | None = None
        self._points: deque[Point] = deque(maxlen=int(WINDOW_S / STEP_S))
        self._moments: deque[Moment] = deque(maxlen=int(WINDOW_S / MOMENT_S) + 1)
        self.alerts = Alerts()

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(STEP_S)

    def sample(self) -> None:
        """Take a sample and, if they are due, the rows for the alerts and for `shares`."""
        now = self._clock()
        before, self._last = self._last, sample_of(self._metrics.merged_rows(_SAMPLED), now)
        if before is not None:
            self._points.append(point_of(before, self._last))
        if not self._moments or now - self._moments[-1].at >= MOMENT_S:
            snapshot = self._metrics.merged_snapshot()
            self._moments.append(Moment(now, {name: snapshot[name] for name in FAMILIES if name in snapshot}))
            self.alerts.check(self._moments)

    def points(self, since: float = 0.0) -> dict[str, list[float | None]]:
        """Return a list for each of COLUMNS, with one value per interval that ended after `since`."""
        points = [point for point in self._points if point[0] is not None and point[0] > since]
        columns = zip(*points, strict=True) if points else ((),) * len(COLUMNS)
        return {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}

    def shares(self) -> dict[str, dict[str, int]]:
        """Return the number of calls in the last 15 minutes by model, then by the target that served them."""
        before = self._moments[0].rows.get("lockgate_requests", {}) if self._moments else {}
        shares: dict[str, dict[str, int]] = {}
        for labels, (count, *_) in self._metrics.merged_rows({"lockgate_requests"}).get("lockgate_requests", {}).items():
            increase = count - before.get(labels, [0])[0]
            if increase > 0:
                targets = shares.setdefault(labels[0], {})
                targets[labels[1]] = targets.get(labels[1], 0) + increase
        return shares

    def in_flight(self) -> dict[str, int]:
        """Return the number of calls and the number of streams in flight."""
        rows = self._metrics.merged_rows(_IN_FLIGHT)
        calls, streams = (sum(cells[0] for cells in rows.get(name, {}).values()) // MICRO for name in _IN_FLIGHT)
        return {"calls": calls, "streams": streams}

    def describe(self, since: float) -> dict[str, Any]:
        """Return the points, the calls in flight, the shares and the alerts as JSON values."""
        return {
            "now": self._clock(),
            "step_seconds": STEP_S,
            "window_seconds": WINDOW_S,
            "points": self.points(since),
            "in_flight": self.in_flight(),
            "shares": self.shares(),
            "alerts": self.alerts.describe(),
        }


def _quantiles(before: Sample, now: Sample) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile of the time to first token of an interval, in milliseconds."""
    new = [max(0, count - known) for count, known in zip(now.first_token, before.first_token, strict=True)]
    buckets = dict(zip((*_BUCKETS, INFINITE), accumulate(new), strict=True))
    low, high = quantile(buckets, 0.5), quantile(buckets, 0.95)
    return (None if low is None else round(low * 1000, 2)), (None if high is None else round(high * 1000, 2))

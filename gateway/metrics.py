"""Every Prometheus metric, declared in one table; counted as plain integers and collected at scrape.

Looking labels up in prometheus-client costs 10 to 26 us a request (measured); an integer in a dict costs 1. Series are bounded:
only configured models, targets and keys become label values, every other name is `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from gateway.call import Call
from providers.base import Target

Labels = tuple[str, ...]

DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_BYTE = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

COUNTERS: dict[str, tuple[str, Labels]] = {
    "lockgate_requests": ("Calls answered, by the status and error code the caller got.", ("model", "target", "status", "code")),
    "lockgate_tokens": ("Tokens, reported by the provider or estimated.", ("model", "target", "kind", "source")),
    "lockgate_adjustments": ("Parameters that were changed.", ("provider", "param", "action")),
    "lockgate_attempts": ("Requests sent to a target, by what became of them.", ("target", "outcome")),
    "lockgate_upstream_errors": ("Attempts that failed.", ("target", "kind")),
    "lockgate_retries": ("Requests sent again to the target that had failed.", ("target",)),
    "lockgate_fallbacks": ("Calls that went on to another target.", ("model",)),
    "lockgate_retry_budget_exhausted": ("Calls that ended with their failure because too many others had been sent again.", ()),
    "lockgate_cooldowns": ("Targets (or credentials) that began to cool.", ("target", "reason")),
    "lockgate_shed": ("Calls that a target's max_concurrent turned away.", ("target",)),
    "lockgate_stream_end": ("How streams ended.", ("target", "reason")),
    "lockgate_client_aborts": ("Callers who left before their answer was complete.", ("phase",)),
    "lockgate_auth_failures": ("Calls without a valid key.", ("reason",)),
    "lockgate_limit_refusals": ("Calls and attempts that a limit refused.", ("owner", "kind")),
    "lockgate_limit_degraded": ("Decisions on limits while the store was out of reach.", ("decision",)),
    "lockgate_sse_normalised": ("Irregularities of upstream streams that were smoothed.", ()),
    "lockgate_internal_errors": ("Errors of the gateway itself.", ()),
}
"""Name (without _total), help, labels."""

HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "lockgate_request_duration_seconds": ("From the request's head to the answer's last byte.", DURATION),
    "lockgate_time_to_first_byte_seconds": ("From the request's head to the answer's first byte.", FIRST_BYTE),
    "lockgate_overhead_seconds": ("From the request's head to the upstream request being ready to send.", OVERHEAD),
}
"""Each by model and target."""

OTHER = "other"
MAX_CODES = 100
MAX_SERIES = 5000
"""Of one counter; what comes after is counted as `other` throughout. Names that reloads bring and take are bounded by this alone."""
MAX_ROWS = 1000
"""Of one histogram, each of which is some twenty series."""


class Snapshot(msgspec.Struct):
    """The counters of one process at one moment, for another process to add up. Label values are joined by a NUL."""

    counts: dict[str, dict[str, int]] = {}
    histograms: dict[str, dict[str, list[float]]] = {}
    in_flight: int = 0


def add(one: Snapshot, other: Snapshot) -> Snapshot:
    """Both together; calls in flight count only where they still run."""
    total = Snapshot(in_flight=one.in_flight + other.in_flight)
    for snapshot in (one, other):
        for name, counter in snapshot.counts.items():
            sums = total.counts.setdefault(name, {})
            for labels, count in counter.items():
                sums[labels] = sums.get(labels, 0) + count
        for name, rows in snapshot.histograms.items():
            row_sums = total.histograms.setdefault(name, {})
            for labels, row in rows.items():
                known = row_sums.get(labels)
                row_sums[labels] = [a + b for a, b in zip(known, row, strict=True)] if known else list(row)
    return total


class Metrics:
    """One process's counters."""

    def __init__(self, models: Iterable[str], params: Iterable[str], targets: Iterable[str]) -> None:
        """`models`, `params` and `targets` are the names that may become label values."""
        self._targets = set(targets)
        self._models = set(models)
        self._params = frozenset(params)
        self.counts: dict[str, dict[Labels, int]] = {name: {} for name in COUNTERS}
        self.histograms: dict[str, dict[Labels, list[float]]] = {name: {} for name in HISTOGRAMS}
        self._codes: set[str] = set()
        self.in_flight = 0
        self._source: Callable[[], Snapshot] | None = None
        self.gauges: dict[str, tuple[str, Callable[[], Mapping[Labels, float]], Labels]] = {}

    def know(self, models: Iterable[str], targets: Iterable[str]) -> None:
        """More names that may become label values: a new generation's. Those of older ones stay, as their series do."""
        self._models.update(models)
        self._targets.update(targets)

    def count(self, name: str, labels: Labels = (), by: int = 1) -> None:
        """Add to a counter."""
        counter = self.counts[name]
        before = counter.get(labels)
        if before is None:
            if len(counter) >= MAX_SERIES:
                labels = (OTHER,) * len(labels)
            before = counter.get(labels, 0)
        counter[labels] = before + by

    def observe(self, name: str, labels: Labels, seconds: float) -> None:
        """Add to a histogram; the last two cells of a row are the count above all buckets and the sum."""
        rows = self.histograms[name]
        buckets = HISTOGRAMS[name][1]
        row = rows.get(labels)
        if row is None:
            if len(rows) >= MAX_ROWS:
                labels = (OTHER,) * len(labels)
            row = rows.setdefault(labels, [0.0] * (len(buckets) + 2))
        row[bisect_left(buckets, seconds)] += 1
        row[-1] += seconds

    def model_label(self, name: str) -> str:
        """The model's name if it is configured."""
        return name if name in self._models else OTHER

    def target_label(self, target: Target | None) -> str:
        """The target's name if the configuration names it."""
        if target is None:
            return "none"
        return target.name if target.name in self._targets else f"{target.provider}/{OTHER}"

    def param_label(self, param: str) -> str:
        """A parameter's top-level name if it is one that we know."""
        top = param.partition("[")[0].partition(".")[0]
        return top if top in self._params else OTHER

    def _code_label(self, code: str) -> str:
        """An error code; upstreams bring their own, so only the first MAX_CODES become labels."""
        if code not in self._codes:
            if len(self._codes) >= MAX_CODES:
                return OTHER
            self._codes.add(code)
        return code

    def record(self, call: Call, ended: float) -> None:
        """Everything that one finished call adds."""
        model = self.model_label(call.model)
        target = self.target_label(call.target)
        code = self._code_label(call.error.code or "upstream") if call.error else "ok"
        status = "499" if call.abort_phase else str(call.status)
        self.count("lockgate_requests", (model, target, status, code if not call.abort_phase else "client_closed"))
        both = (model, target)
        self.observe("lockgate_request_duration_seconds", both, ended - call.started)
        if call.first_byte_at:
            self.observe("lockgate_time_to_first_byte_seconds", both, call.first_byte_at - call.started)
        if call.sent_at and len(call.attempts) == 1:
            self.observe("lockgate_overhead_seconds", both, call.sent_at - call.started)
        if call.usage is not None:
            self._record_usage(call, both)
        if call.adjustments and call.target:
            for adjustment in call.adjustments:
                self.count("lockgate_adjustments", (call.target.provider, self.param_label(adjustment.param), adjustment.action))
        if call.stream_end:
            self.count("lockgate_stream_end", (target, call.stream_end))
        if call.abort_phase:
            self.count("lockgate_client_aborts", (call.abort_phase,))

    def _record_usage(self, call: Call, labels: Labels) -> None:
        usage = call.usage
        assert usage is not None
        source = "estimated" if usage.estimated else "reported"
        for kind, tokens in (
            ("prompt", usage.prompt_tokens),
            ("output", usage.completion_tokens),
            ("cached", usage.cached_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self.count("lockgate_tokens", (*labels, kind, source), tokens)

    def snapshot(self) -> Snapshot:
        """This process's counters, to be sent to another."""
        return Snapshot(
            {name: {"\0".join(labels): count for labels, count in counter.items()} for name, counter in self.counts.items()},
            {name: {"\0".join(labels): list(row) for labels, row in rows.items()} for name, rows in self.histograms.items()},
            self.in_flight,
        )

    def collect_from(self, source: Callable[[], Snapshot]) -> None:
        """Show the counters that `source` gives at each scrape instead of this process's own."""
        self._source = source

    def _load(self) -> None:
        if self._source is None:
            return
        snapshot = self._source()
        self.in_flight = snapshot.in_flight
        for name in COUNTERS:
            self.counts[name] = {_labels(joined, COUNTERS[name][1]): n for joined, n in snapshot.counts.get(name, {}).items()}
        for name in HISTOGRAMS:
            self.histograms[name] = {tuple(joined.split("\0")): row for joined, row in snapshot.histograms.get(name, {}).items()}

    def gauge(self, name: str, text: str, read: Callable[[], Mapping[Labels, float]], labels: Labels = ()) -> None:
        """A value that is read at scrape: `read` gives it by label values."""
        self.gauges[name] = (text, read, labels)

    def collect(self) -> Iterator[Any]:
        """prometheus-client's collector protocol."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, count in list(self.counts[name].items()):
                counter.add_metric(values, count)
            yield counter
        for name, (text, buckets) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(name, text, labels=("model", "target"))
            for values, row in list(self.histograms[name].items()):
                histogram.add_metric(values, _cumulative(buckets, row), row[-1])
            yield histogram
        in_flight = GaugeMetricFamily("lockgate_requests_in_flight", "Calls that are being answered.")
        in_flight.add_metric((), self.in_flight)
        yield in_flight
        for name, (text, read, labels) in self.gauges.items():
            family: Any = (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(name, text, labels=labels)
            for values, value in read().items():
                family.add_metric(values, value)
            yield family

    def expose(self) -> bytes:
        """The text format that Prometheus scrapes."""
        from prometheus_client import CollectorRegistry, generate_latest

        self._load()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def _labels(joined: str, names: Labels) -> Labels:
    return tuple(joined.split("\0")) if names else ()


def _cumulative(buckets: tuple[float, ...], row: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    found: list[tuple[str, float]] = []
    for at, bound in enumerate((*buckets, float("inf"))):
        total += row[at]
        found.append(("+Inf" if bound == float("inf") else str(bound), total))
    return found

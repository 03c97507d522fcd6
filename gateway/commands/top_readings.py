"""Rates and quantiles between two scrapes of /metrics. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from gateway.metrics.quantile import INFINITE, quantile

Series = list[tuple[dict[str, str], float]]


class Scrape(msgspec.Struct):
    """The samples of one scrape by name, and its time on a monotonic clock."""

    time: float
    samples: dict[str, Series]


class ModelRow(NamedTuple):
    """A model: totals since the gateway's start, and rates per second over the interval."""

    name: str
    requests: float
    rate: float
    errors: float
    """Share of failed calls in the interval, or since the start if the interval had no calls."""
    time_to_first_token: tuple[float | None, float | None]
    """Median and 95th percentile in seconds; None without calls."""
    duration: tuple[float | None, float | None]
    tokens: float
    """Output tokens per second."""
    cost: float


class TargetRow(NamedTuple):
    """A target: its state, and totals and rates of its attempts."""

    name: str
    state: str
    in_flight: float
    waiting: float
    rate: float
    failed: float
    """Failed attempts since the start."""


class KeyRow(NamedTuple):
    """A virtual key: totals since the gateway's start, and the rate of calls per second."""

    name: str
    requests: float
    rate: float
    tokens: float
    cost: float


def parse(text: str, time: float) -> Scrape:
    """Parse the Prometheus text format of a scrape made at `time`."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Scrape(time, samples)


class Frame:
    """The metrics of one scrape, with rates since an earlier one."""

    def __init__(self, before: Scrape, now: Scrape) -> None:
        """Create a frame. If both scrapes are the same object, all rates are 0."""
        self._before = before
        self._now = now
        self.seconds = max(now.time - before.time, 1e-9)

    def value(self, name: str, default: float = 0.0, **labels: str) -> float:
        """Return the sum of a gauge's series, or `default` if there are none."""
        values = [value for _, value in _matching(self._now, name, labels)]
        return sum(values) if values else default

    def label(self, name: str, label: str) -> str:
        """Return the value of a label of the first series, or an empty string if there is none."""
        return next((labels.get(label, "") for labels, _ in self._now.samples.get(name, [])), "")

    def total(self, name: str, **labels: str) -> float:
        """Return a counter's value since the gateway's start."""
        return sum(value for _, value in _matching(self._now, name, labels))

    def rate(self, name: str, **labels: str) -> float:
        """Return a counter's increase per second. A lower value than before means that the counter was reset."""
        before = sum(value for _, value in _matching(self._before, name, labels))
        now = self.total(name, **labels)
        return (now - before if now >= before else now) / self.seconds if self._now is not self._before else 0.0

    def names(self, name: str, label: str) -> list[str]:
        """Return the values of a label, ordered by the sum of their series, largest first."""
        sums: dict[str, float] = {}
        for labels, value in self._now.samples.get(name, []):
            if label in labels:
                sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sorted(sums, key=lambda value: (-sums[value], value))

    def quantiles(self, name: str, **labels: str) -> tuple[float | None, float | None]:
        """Return the median and the 95th percentile of a histogram.

        The values cover the interval, or the time since the start if there are no new values.
        """
        now, before = _buckets(self._now, name, labels), _buckets(self._before, name, labels)
        new = {bound: count - before.get(bound, 0.0) for bound, count in now.items()}
        buckets = new if new.get(INFINITE, 0.0) > 0 else now
        return quantile(buckets, 0.5), quantile(buckets, 0.95)

    def model_rows(self) -> Iterator[ModelRow]:
        """Yield a row for every model that was called."""
        for name in self.names("lockgate_requests_total", "model"):
            requests, rate = (
                self.total("lockgate_requests_total", model=name),
                self.rate("lockgate_requests_total", model=name),
            )
            successful = {"model": name, "status": "2xx"}
            errors = 1 - self.rate("lockgate_requests_total", **successful) / rate if rate else 0.0
            if not rate and requests:
                errors = 1 - self.total("lockgate_requests_total", **successful) / requests
            yield ModelRow(
                name,
                requests,
                rate,
                max(0.0, errors),
                self.quantiles("lockgate_time_to_first_token_seconds", model=name),
                self.quantiles("lockgate_request_duration_seconds", model=name),
                self.rate("lockgate_tokens_total", model=name, kind="output"),
                self.total("lockgate_cost_usd_total", model=name),
            )

    def target_rows(self) -> Iterator[TargetRow]:
        """Yield a row for every target with attempts or a known state."""
        names = dict.fromkeys(
            self.names("lockgate_attempts_total", "target") + self.names("lockgate_target_state", "target")
        )
        for name in names:
            states = [
                labels["state"]
                for labels, value in _matching(self._now, "lockgate_target_state", {"target": name})
                if value
            ]
            failed = self.total("lockgate_attempts_total", target=name) - self.total(
                "lockgate_attempts_total", target=name, outcome="ok"
            )
            yield TargetRow(
                name,
                next((state for state in ("cooling", "probing", "live") if state in states), "-"),
                self.value("lockgate_target_in_flight", target=name),
                self.value("lockgate_target_waiting", target=name),
                self.rate("lockgate_attempts_total", target=name),
                failed,
            )

    def key_rows(self) -> Iterator[KeyRow]:
        """Yield a row for every key that was used."""
        for name in self.names("lockgate_key_requests_total", "key"):
            yield KeyRow(
                name,
                self.total("lockgate_key_requests_total", key=name),
                self.rate("lockgate_key_requests_total", key=name),
                self.total("lockgate_key_tokens_total", key=name),
                self.total("lockgate_key_cost_usd_total", key=name),
            )

    def refusals(self) -> Iterator[tuple[str, str, float, float]]:
        """Yield a row for each limit that refused calls: its owner, its kind, the number of refusals and their rate per second."""
        for owner in self.names("lockgate_limit_decisions_total", "owner"):
            decisions = _matching(self._now, "lockgate_limit_decisions_total", {"owner": owner})
            kinds = {labels["kind"] for labels, _ in decisions}
            for kind in sorted(kinds):
                labels = {"owner": owner, "kind": kind, "decision": "refused"}
                count = self.total("lockgate_limit_decisions_total", **labels)
                if count:
                    yield owner, kind, count, self.rate("lockgate_limit_decisions_total", **labels)


def _matching(scrape: Scrape, name: str, labels: dict[str, str]) -> Series:
    series = scrape.samples.get(name, [])
    return [(has, value) for has, value in series if all(has.get(label) == wanted for label, wanted in labels.items())]


def _buckets(scrape: Scrape, name: str, labels: dict[str, str]) -> dict[float, float]:
    counts: dict[float, float] = {}
    for has, value in _matching(scrape, f"{name}_bucket", labels):
        bound = float(has["le"])
        counts[bound] = counts.get(bound, 0.0) + value
    return counts

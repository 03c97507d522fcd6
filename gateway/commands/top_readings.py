"""What two scrapes of /metrics say about the time between them; no terminal, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

Series = list[tuple[dict[str, str], float]]
INFINITE = float("inf")


class Scrape(msgspec.Struct):
    """One scrape: when it was made, on any clock, and its samples by name."""

    at: float
    samples: dict[str, Series]


class Row(NamedTuple):
    """A model or a key: numbers since the gateway's start, and by the second lately. Times in seconds, None when there were none."""

    name: str
    requests: float
    rate: float
    errors: float
    """The share of calls that failed lately, or ever when there were none."""
    first: tuple[float | None, float | None]
    whole: tuple[float | None, float | None]
    """Median and 95th percentile."""
    tokens: float
    """Output tokens a second."""
    cost: float


class TargetRow(NamedTuple):
    """A target."""

    name: str
    state: str
    in_flight: float
    waiting: float
    rate: float
    failed: float
    """Attempts that failed, since the start."""


class KeyRow(NamedTuple):
    """A virtual key."""

    name: str
    requests: float
    rate: float
    tokens: float
    cost: float


def parse(text: str, at: float) -> Scrape:
    """The text that /metrics gives."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Scrape(at, samples)


class Frame:
    """One moment, seen against an earlier one."""

    def __init__(self, before: Scrape, now: Scrape) -> None:
        """With the same scrape twice all rates are 0."""
        self._before = before
        self._now = now
        self.seconds = max(now.at - before.at, 1e-9)

    def value(self, name: str, default: float = 0.0, **labels: str) -> float:
        """The sum of a gauge's series."""
        found = [value for _, value in _matching(self._now, name, labels)]
        return sum(found) if found else default

    def label(self, name: str, label: str) -> str:
        """A label's value where only the label matters; empty without one."""
        return next((labels.get(label, "") for labels, _ in self._now.samples.get(name, [])), "")

    def total(self, name: str, **labels: str) -> float:
        """A counter since the gateway's start."""
        return sum(value for _, value in _matching(self._now, name, labels))

    def rate(self, name: str, **labels: str) -> float:
        """A counter by the second; a counter that went down began anew."""
        before = sum(value for _, value in _matching(self._before, name, labels))
        now = self.total(name, **labels)
        return (now - before if now >= before else now) / self.seconds if self._now is not self._before else 0.0

    def names(self, name: str, label: str) -> list[str]:
        """The values of a label, those with the largest values first."""
        sums: dict[str, float] = {}
        for labels, value in self._now.samples.get(name, []):
            if label in labels:
                sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sorted(sums, key=lambda one: (-sums[one], one))

    def quantiles(self, name: str, **labels: str) -> tuple[float | None, float | None]:
        """Median and 95th percentile of a histogram: of late, or of all there was when nothing came lately."""
        now, before = _buckets(self._now, name, labels), _buckets(self._before, name, labels)
        late = {bound: count - before.get(bound, 0.0) for bound, count in now.items()}
        shown = late if late.get(INFINITE, 0.0) > 0 else now
        return quantile(shown, 0.5), quantile(shown, 0.95)

    def model_rows(self) -> Iterator[Row]:
        """Every model that was called."""
        for name in self.names("lockgate_requests_total", "model"):
            requests, rate = self.total("lockgate_requests_total", model=name), self.rate("lockgate_requests_total", model=name)
            good = ("lockgate_requests_total", "2xx")
            errors = 1 - self.rate(good[0], model=name, status=good[1]) / rate if rate else 0.0
            if not rate and requests:
                errors = 1 - self.total(good[0], model=name, status=good[1]) / requests
            yield Row(
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
        """Every target that was asked, or whose state is known."""
        names = dict.fromkeys(self.names("lockgate_attempts_total", "target") + self.names("lockgate_target_state", "target"))
        for name in names:
            states = [labels["state"] for labels, value in _matching(self._now, "lockgate_target_state", {"target": name}) if value]
            failed = self.total("lockgate_attempts_total", target=name) - self.total("lockgate_attempts_total", target=name, outcome="ok")
            yield TargetRow(
                name,
                next((one for one in ("cooling", "probing", "live") if one in states), "-"),
                self.value("lockgate_target_in_flight", target=name),
                self.value("lockgate_target_waiting", target=name),
                self.rate("lockgate_attempts_total", target=name),
                failed,
            )

    def key_rows(self) -> Iterator[KeyRow]:
        """Every key that called."""
        for name in self.names("lockgate_key_requests_total", "key"):
            yield KeyRow(
                name,
                self.total("lockgate_key_requests_total", key=name),
                self.rate("lockgate_key_requests_total", key=name),
                self.total("lockgate_key_tokens_total", key=name),
                self.total("lockgate_key_cost_usd_total", key=name),
            )

    def refusals(self) -> Iterator[tuple[str, str, float, float]]:
        """What limits refused: whose, of what kind, since the start and by the second."""
        for owner in self.names("lockgate_limit_decisions_total", "owner"):
            kinds = {labels["kind"] for labels, _ in _matching(self._now, "lockgate_limit_decisions_total", {"owner": owner})}
            for kind in sorted(kinds):
                chosen = {"owner": owner, "kind": kind, "decision": "refused"}
                count = self.total("lockgate_limit_decisions_total", **chosen)
                if count:
                    yield owner, kind, count, self.rate("lockgate_limit_decisions_total", **chosen)


def quantile(buckets: dict[float, float], share: float) -> float | None:
    """Where that share of a histogram ends, by cumulative counts; evenly within its bucket. None when it is empty."""
    total = buckets.get(INFINITE, 0.0)
    if total <= 0:
        return None
    wanted, below, lower = total * share, 0.0, 0.0
    for bound in sorted(buckets):
        count = buckets[bound]
        if count >= wanted and count > below:
            return lower if bound == INFINITE else lower + (bound - lower) * (wanted - below) / (count - below)
        below, lower = count, bound if bound != INFINITE else lower
    return lower


def _matching(scrape: Scrape, name: str, labels: dict[str, str]) -> Series:
    return [(has, value) for has, value in scrape.samples.get(name, []) if all(has.get(key) == one for key, one in labels.items())]


def _buckets(scrape: Scrape, name: str, labels: dict[str, str]) -> dict[float, float]:
    found: dict[float, float] = {}
    for has, value in _matching(scrape, f"{name}_bucket", labels):
        bound = float(has["le"])
        found[bound] = found.get(bound, 0.0) + value
    return found

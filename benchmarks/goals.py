"""The goals of a release. A missed goal is reported but does not fail the run, because machines differ and are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from benchmarks import calls, runs
from benchmarks.bench import CPU, DIRECT, RATE, column
from benchmarks.figures import Figures
from benchmarks.targets import FULL, NGINX

Measured = Callable[[Figures], float | None]


@dataclass(frozen=True)
class Goal:
    """A limit for one figure. The figure is None if a run did not measure it."""

    name: str
    limit: float
    unit: str
    measured: Measured
    at_least: bool = False

    def verdict(self, figures: Figures) -> tuple[str, str, str]:
        """Return the limit, the measured figure and the verdict as text."""
        value = self.measured(figures)
        limit = f"{'at least' if self.at_least else 'at most'} {self.limit:,g} {self.unit}"
        if value is None:
            return limit, "-", "not measured"
        if value == inf:
            return limit, "does not start", "missed"
        met = value >= self.limit if self.at_least else value <= self.limit
        return limit, f"{value:,.3f}" if value < 10 else f"{value:,.0f}", "met" if met else "missed"


def _ratio(table: str, row: str, name: str, base: str, figure: str = CPU) -> Measured:
    """Return the function that reads the median ratio of a figure of two targets."""

    def measured(figures: Figures) -> float | None:
        spread = figures.ratio(table, row, column(name, figure), column(base, figure))
        return spread.median if spread else None

    return measured


def _added(row: str) -> Measured:
    """Return the function that reads the median latency that the gateway adds, in ms."""

    def measured(figures: Figures) -> float | None:
        spread = figures.difference("latency", row, column(FULL, runs.LATENCY), column(DIRECT, runs.LATENCY))
        return spread.median if spread else None

    return measured


def _median(table: str, row: str, name: str) -> Measured:
    """Return the function that reads the median of a figure."""

    def measured(figures: Figures) -> float | None:
        spread = figures.spread(table, row, name)
        return spread.median if spread else None

    return measured


def _worst(table: str, each: Callable[[str], Measured], pick: Callable[[Iterable[float]], float]) -> Measured:
    """Return the function that reads the worst value of a figure over all rows of a table that have this figure."""

    def measured(figures: Figures) -> float | None:
        values = [value for row in figures.tables.get(table, {}) if (value := each(row)(figures)) is not None]
        return pick(values) if values else None

    return measured


def _api(row: str) -> Measured:
    return _ratio("apis", row, calls.CALL, calls.CHAT)


_SCALED = _worst("scale", lambda row: _ratio("scale", row, runs.MANY, runs.FEW), max)
SLOW_ROW = f"{runs.SLOW_STREAMS:,} streams of 10 s"
PROMPTS_ROW = f"{runs.PROMPT_RATE} prompts/s of {runs.PROMPT_BYTES // 1000} KB"
COMPARED = (
    Goal("JSON c=32 against vllm-router", 1.0, "x", _ratio("json", "c=32", FULL, "vllm-router")),
    Goal("SSE c=32 against vllm-router", 0.6, "x", _ratio("sse", "c=32", FULL, "vllm-router")),
    Goal("JSON c=32 against Portkey", 0.04, "x", _ratio("json", "c=32", FULL, "portkey")),
)
"""Goals that only a comparison with other gateways measures."""
GOALS = (
    Goal("JSON c=32 against nginx", 5, "x", _ratio("json", "c=32", FULL, NGINX)),
    Goal("SSE c=32 against nginx", 1.5, "x", _ratio("sse", "c=32", FULL, NGINX)),
    Goal("event that arrives alone, against nginx", 2, "x", _ratio("lone", calls.LONE_ROW, FULL, NGINX)),
    Goal("added p99, 16 callers, upstream of 20 ms", 0.5, "ms", _added("16 callers, upstream of 20 ms: p99")),
    # 100 prompts are sent per second; the time includes the last answer, so the measured rate can be slightly lower
    Goal("400 KB prompts with token limits on one core", 99, "per second", _median("prompts", PROMPTS_ROW, RATE), at_least=True),
    Goal("p99 of the health check meanwhile", 3, "ms", _median("prompts", PROMPTS_ROW, runs.PROBE_P99)),
    Goal("idle memory", 60, "MB", _median("idle", runs.ALONE, column(FULL, runs.IDLE))),
    Goal("start", 0.6, "s", _median("idle", runs.ALONE, column(FULL, runs.START))),
    Goal("2,000 slow streams, memory", 25, "KiB each", _median("slow", SLOW_ROW, column(FULL, runs.KIB))),
    Goal("2,000 slow streams, first content p99 against nginx", 1.5, "x", _ratio("slow", SLOW_ROW, FULL, NGINX, runs.CONTENT_P99)),
    Goal(
        "more models and keys, against 10",
        1.05,
        "x",
        lambda figures: inf if figures.notes.get("scale") else _SCALED(figures),
    ),
    Goal(
        "two workers against one, JSON",
        1.7,
        "x",
        _ratio("workers", "JSON c=64", runs.TWO_WORKERS, runs.ONE_WORKER, RATE),
        at_least=True,
    ),
    Goal(
        "six workloads, the slowest",
        4900,
        "requests/s",
        _worst("harness", lambda row: _median("harness", row, column(FULL, RATE)), min),
        at_least=True,
    ),
    Goal("six workloads, the highest p99", 6.9, "ms", _worst("harness", lambda row: _median("harness", row, column(FULL, runs.P99)), max)),
    Goal("six workloads, memory", 60, "MB", _worst("harness", lambda row: _median("harness", row, column(FULL, runs.MEMORY)), max)),
    Goal(
        "stream that needs repair, against an untouched one",
        2.5,
        "x",
        _worst("repair", lambda row: _ratio("repair", row, calls.REPAIRED, calls.UNTOUCHED), max),
    ),
    *(
        Goal(f"{api} {form}, {way}, against a chat completion", limit, "x", _api(f"{api} {form}, {way}"))
        for api, way, json_limit, stream_limit in (
            ("Responses", "translated", 2, 2.5),
            ("Responses", "native", 1.2, 1.2),
            ("Messages", "translated", 2, 2.5),
            ("Messages", "native", 1.2, 1.2),
            ("Cohere's chat", "translated", 2, 2.5),
            ("Cohere's chat", "native", 1.2, 1.2),
            ("Completions", "unchanged", 1.2, 1.2),
        )
        for form, limit in (("JSON", json_limit), ("SSE", stream_limit))
    ),
)
"""Goals of a run without other gateways."""

"""The report of a run, as Markdown tables."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

GOALS = {
    "JSON c=32": ("x nginx", 6.5),
    "SSE c=32": ("x nginx", 1.7),
    "stream that needs repair": ("x untouched", 2.5),
    "Responses JSON, translated": ("x chat", 2.0),
    "Responses SSE, translated": ("x chat", 2.5),
    "Responses JSON, native": ("x chat", 1.2),
    "Responses SSE, native": ("x chat", 1.2),
    "Messages JSON, translated": ("x chat", 2.0),
    "Messages SSE, translated": ("x chat", 2.5),
    "Messages JSON, native": ("x chat", 1.2),
    "Messages SSE, native": ("x chat", 1.2),
    "Cohere's chat JSON, translated": ("x chat", 2.0),
    "Cohere's chat SSE, translated": ("x chat", 2.5),
    "Completions JSON, unchanged": ("x chat", 1.2),
    "Completions SSE, unchanged": ("x chat", 1.2),
    "idle memory": ("MB", 45.0),
    "2,000 slow streams": ("KiB each", 30.0),
}
"""Goals of a release. A missed goal is reported but is not an error, because machines differ and are shared."""

Pairs = list[tuple[float, float]]
"""Two costs of each repetition."""


@dataclass
class Figures:
    """Results of one run: CPU time per request in microseconds by load and target, one value per repetition, and memory."""

    cpu: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    throughput: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    repairs: dict[str, Pairs] = field(default_factory=dict)
    """CPU time of a stream that needs repair, and of an untouched one just before it: a pair per repetition."""
    apis: dict[str, Pairs] = field(default_factory=dict)
    """CPU time of a call of another API, and of the same chat completion just before it: a pair per repetition."""
    started: dict[str, float] = field(default_factory=dict)
    idle_kib: dict[str, int] = field(default_factory=dict)
    stream_kib: dict[str, float] = field(default_factory=dict)
    nginx: str | None = None

    def add(self, load: str, target: str, microseconds: float, per_second: float) -> None:
        """Add the results of one repetition."""
        self.cpu.setdefault(load, {}).setdefault(target, []).append(microseconds)
        self.throughput.setdefault(load, {}).setdefault(target, []).append(per_second)

    def add_repair(self, repair: str, microseconds: float, untouched: float) -> None:
        """Add the result of one repetition for streams that need repair."""
        self.repairs.setdefault(repair, []).append((microseconds, untouched))

    def add_api(self, api: str, microseconds: float, chat: float) -> None:
        """Add the result of one repetition for calls of another API."""
        self.apis.setdefault(api, []).append((microseconds, chat))

    def api_ratio(self, api: str) -> float | None:
        """Return the cost of a call of another API divided by that of the chat completion, as a median."""
        pairs = self.apis.get(api)
        return _median_ratio(pairs) if pairs else None

    def repair_ratio(self, repair: str) -> float:
        """Return the cost of a stream that needs repair divided by that of an untouched one, as a median."""
        return _median_ratio(self.repairs[repair])

    def ratio(self, load: str) -> float | None:
        """Return the gateway's cost divided by nginx's: the median of the ratios of all repetitions."""
        ours, theirs = self.cpu[load].get("gateway", []), self.cpu[load].get("nginx", [])
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=True)) if theirs else None


def markdown(figures: Figures) -> str:
    """Return the report."""
    tables = (_cpu_table, _repair_table, _api_table, _memory_table, _verdicts)
    return "\n".join([*_heading(figures), *[line for table in tables for line in (*table(figures), "")]])


def _heading(figures: Figures) -> list[str]:
    return [
        "# Cost of a call",
        "",
        "Written by `make bench`. The target runs on one core; the mock upstream and the load generator share another core. A request",
        "has 1,460 B, a JSON response 591 B, and a stream 51 events of about 200 B, each sent separately: without a pause, or 20 ms",
        "apart. CPU is the user and system time of the target's process tree per request: the median of all repetitions (lowest to",
        "highest). Ratios are computed within a repetition. Absolute figures depend on the machine. The gateway checks a key, parses",
        "and routes the call, rewrites its model, reads and counts the usage of the response and writes a log line; nginx only",
        "forwards bytes.",
        "",
        f"Machine: {_machine()}; Python {platform.python_version()}; {figures.nginx or 'nginx is not installed: no ratios'}.",
        "",
    ]


def _machine() -> str:
    """Return processor and kernel in one line."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    count = max(1, info.count("processor\t"))
    return f"{count} x {names[0] if names else platform.machine()}, Linux {platform.release().partition('-')[0]}"


def _cpu_table(figures: Figures) -> list[str]:
    lines = ["| load | gateway, CPU us | nginx, CPU us | ratio | gateway, requests/s |", "| --- | --- | --- | --- | --- |"]
    for load, values in figures.cpu.items():
        ratio = figures.ratio(load)
        rate = statistics.median(figures.throughput[load]["gateway"])
        cells = [load, _spread(values["gateway"]), _spread(values.get("nginx", [])), f"{ratio:.2f}" if ratio else "-", f"{rate:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _repair_table(figures: Figures) -> list[str]:
    return _ratio_table("stream that needs repair, c=32", "untouched", figures.repairs)


def _api_table(figures: Figures) -> list[str]:
    return _ratio_table("call of another API, c=32", "chat completion", figures.apis)


def _ratio_table(what: str, other: str, costs: Mapping[str, Pairs]) -> list[str]:
    """Return a table of costs, of the costs of the alternative in the same repetitions, and of their ratios."""
    lines = [f"| {what} | gateway, CPU us | {other}, CPU us | ratio |", "| --- | --- | --- | --- |"]
    for name, pairs in costs.items():
        ours, others = zip(*pairs, strict=True)
        lines.append(f"| {name} | {_spread(ours)} | {_spread(others)} | {_median_ratio(pairs):.2f} |")
    return lines


def _median_ratio(pairs: Pairs) -> float:
    return statistics.median(ours / other for ours, other in pairs)


def _memory_table(figures: Figures) -> list[str]:
    lines = ["| | gateway | nginx |", "| --- | --- | --- |"]
    rows = (
        ("start to first answer, s", figures.started, "{:.2f}"),
        ("idle memory (PSS), MB", {name: kib * 1024 / 1e6 for name, kib in figures.idle_kib.items()}, "{:.1f}"),
        ("memory of one slow stream of 2,000 (PSS), KiB", figures.stream_kib, "{:.1f}"),
    )
    for title, values, form in rows:
        cells = [form.format(values[name]) if name in values else "-" for name in ("gateway", "nginx")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _verdicts(figures: Figures) -> list[str]:
    measured = {
        "JSON c=32": figures.ratio("JSON c=32") if "JSON c=32" in figures.cpu else None,
        "SSE c=32": figures.ratio("SSE c=32") if "SSE c=32" in figures.cpu else None,
        "stream that needs repair": max(map(figures.repair_ratio, figures.repairs), default=None),
        **{name: figures.api_ratio(name) for name, (unit, _) in GOALS.items() if unit == "x chat"},
        "idle memory": figures.idle_kib["gateway"] * 1024 / 1e6 if figures.idle_kib else None,
        "2,000 slow streams": figures.stream_kib.get("gateway"),
    }
    lines = ["| goal | at most | measured | |", "| --- | --- | --- | --- |"]
    for name, (unit, limit) in GOALS.items():
        value = measured[name]
        verdict = "not measured" if value is None else "met" if value <= limit else "missed"
        lines.append(f"| {name} | {limit:g} {unit} | {'-' if value is None else f'{value:.2f}'} | {verdict} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})" if values else "-"

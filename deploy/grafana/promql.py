"""PromQL expressions shared by the panels."""

from __future__ import annotations

import re

MODEL = 'model=~"$model"'
TARGET = 'target=~"$target"'
KEY = 'key=~"$key", team=~"$team"'
JOB = 'job=~"$job"'
INSTANCE = 'instance=~"$instance"'
BAD = ((0.01, "orange"), (0.05, "red"))
ANY = ((1, "red"),)


_PARTS = re.compile(
    r'"[^"]*"|\b(?:by|on|ignoring) \([^)]*\)|\b((?:lockgate|gen_ai)_\w+|up|scrape_samples_scraped|ALERTS)\b(?:\{([^}]*)\})?'
)


def scoped(query: str) -> str:
    """Return a query that reads only the series of the chosen jobs and instances."""
    return _PARTS.sub(_with_scope, query)


def _with_scope(part: re.Match[str]) -> str:
    metric, where = part[1], part[2]
    if metric is None:  # a string or a list of labels
        return part[0]
    # many alerts have no instance, because their expressions aggregate all instances of a job
    scope = JOB if metric == "ALERTS" else f"{JOB}, {INSTANCE}"
    return f"{metric}{{{where}, {scope}}}" if where else f"{metric}{{{scope}}}"


def rate(metric: str, where: str = "", by: str = "") -> str:
    """Return the per-second rate of a counter, summed by the labels in `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def rare(query: str) -> str:
    """Return a query that yields 0 while there is no data."""
    return f"{query} or vector(0)"


def quantile(q: float, metric: str, where: str = "", by: str = "") -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({q}, sum by ({f'{by}, ' if by else ''}le) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def share(part: str, whole: str) -> str:
    """Return the ratio of two rates; 0 while `part` has no data."""
    return f"({part} or vector(0)) / {whole}"


def three(metric: str, where: str) -> dict[str, str]:
    """Return the 50th, 95th and 99th percentile of a histogram."""
    return {quantile(q, metric, where): name for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))}

"""The shapes of query that panels ask again and again."""

from __future__ import annotations

MODEL = 'model=~"$model"'
TARGET = 'target=~"$target"'
KEY = 'key=~"$key"'
BAD = ((0.01, "orange"), (0.05, "red"))
ANY = ((1, "red"),)


def rate(metric: str, where: str = "", by: str = "") -> str:
    """Events a second, summed up by some labels."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def rare(query: str) -> str:
    """A query that is 0 when nothing has happened yet."""
    return f"{query} or vector(0)"


def quantile(q: float, metric: str, where: str = "", by: str = "") -> str:
    """A quantile of a histogram, in its unit."""
    return f"histogram_quantile({q}, sum by ({f'{by}, ' if by else ''}le) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def share(part: str, whole: str) -> str:
    """A part of a whole, 0 when there is no part yet."""
    return f"({part} or vector(0)) / {whole}"


def three(metric: str, where: str) -> dict[str, str]:
    """Half of the calls, nineteen of twenty, all but one in a hundred."""
    return {quantile(q, metric, where): name for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))}

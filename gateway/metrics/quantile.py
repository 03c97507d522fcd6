"""Quantiles of histograms."""

from __future__ import annotations

from collections.abc import Mapping

INFINITE = float("inf")


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Return a quantile from cumulative counts by upper bound, interpolated within its bucket.

    Return the highest finite bound if the quantile is above it, and None if the histogram is empty.
    """
    total = buckets.get(INFINITE, 0.0)
    if total <= 0:
        return None
    rank, below, lower = total * share, 0.0, 0.0
    for bound in sorted(buckets):
        count = buckets[bound]
        if count >= rank and count > below:
            return lower if bound == INFINITE else lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound if bound != INFINITE else lower
    return lower

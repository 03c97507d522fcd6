"""Counters of the native transport."""

from __future__ import annotations


class TransportStats:
    """Totals of one native transport as plain integers; the metrics read them at each scrape."""

    __slots__ = ("connects", "poisoned", "reuses", "stale_retries")

    def __init__(self) -> None:
        self.connects = 0
        self.reuses = 0
        self.stale_retries = 0
        self.poisoned = 0
        """Connections closed because they were not safe to reuse."""

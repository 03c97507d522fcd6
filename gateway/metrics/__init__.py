"""What is counted, and how it is shown to a scraper: `table` declares it, `recording` counts it, `text` writes it out."""

from gateway.metrics.registry import Metrics

__all__ = ["Metrics"]

"""The metrics registry: one table of metrics, plain integers, and the Prometheus text format.

Every package may import it.

`table` declares every metric, `registry` (class Metrics) counts, `text` writes the exposition.
gateway.telemetry.call_metrics adds finished calls to the counters.
"""

from gateway.metrics.registry import Metrics

__all__ = ["Metrics"]

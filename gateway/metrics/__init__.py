"""The metrics registry: one table of metrics, plain integers, and the Prometheus text format. Any stage may use it.

`table` declares every metric, `registry` (class Metrics) counts, `text` writes the exposition. It does not know what a
call is: what a finished call adds to the counters is in gateway.telemetry.call_metrics.
"""

from gateway.metrics.registry import Metrics

__all__ = ["Metrics"]

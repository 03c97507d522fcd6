"""The metrics registry: one table of metrics, plain integers, and the Prometheus text format.

    declarations   the table of all metrics
    registry       the class Metrics, which counts
    text           the Prometheus text format

gateway.telemetry.call_metrics adds finished calls to the counters.
"""

from gateway.metrics.registry import Metrics

__all__ = ["Metrics"]

"""The metrics: one table that declares them, their values as integers, and their output for Prometheus.

    declarations   the table of all metrics
    registry       the class Metrics, which counts
    text           the Prometheus text format and OpenMetrics

gateway.telemetry.call_metrics adds finished calls to the counters.
"""

from gateway.metrics.registry import Metrics

__all__ = ["Metrics"]

"""The Prometheus metrics of a vLLM server, written with the library and the names, labels and types that vLLM uses.

Source: vllm/v1/metrics/loggers.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tests.faults.behaviours import canned
from tests.faults.upstream_server import Script

LABELS = ("model_name", "engine")
CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"


def vllm_metrics(waiting: Sequence[float], running: Sequence[float], model: str = "meta-llama/Llama-3.1-8B-Instruct") -> bytes:
    """Return the metrics of a server with one engine for each number."""
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"vllm:{name}", text, labelnames=LABELS, registry=registry)
        for name, text in (
            ("num_requests_running", "Number of requests in model execution batches."),
            ("num_requests_waiting", "Number of requests waiting to be processed."),
            ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
        )
    }
    by_reason = Gauge("vllm:num_requests_waiting_by_reason", "Waiting requests by reason.", ("reason", *LABELS), registry=registry)
    tokens = Counter("vllm:prompt_tokens", "Number of prefill tokens processed.", LABELS, registry=registry)
    first_token = Histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token.", LABELS, registry=registry)
    for engine, (waits, runs) in enumerate(zip(waiting, running, strict=True)):
        labels = (model, str(engine))
        gauges["num_requests_running"].labels(*labels).set(runs)
        gauges["num_requests_waiting"].labels(*labels).set(waits)
        gauges["kv_cache_usage_perc"].labels(*labels).set(0.25)
        by_reason.labels("capacity", *labels).set(waits)
        tokens.labels(*labels).inc(12_345)
        first_token.labels(*labels).observe(0.2)
    return generate_latest(registry)


def serve_metrics(waiting: float = 0, running: float = 0) -> Script:
    """Return a script that answers with the metrics of a server with one engine."""
    return canned(vllm_metrics([waiting], [running]), headers={"content-type": CONTENT_TYPE})

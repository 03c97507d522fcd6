"""Metrics of two models and one target, finished calls to record, and samples of a scrape."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

import providers
from gateway.call import Attempt, Call
from gateway.keys.virtual_key import VirtualKey
from gateway.metrics import Metrics
from gateway.telemetry.call_metrics import CallMetrics
from providers.base import Adjustment, Target, Usage


def new_metrics() -> Metrics:
    """Return metrics of two models, one target and two parameters."""
    return Metrics(["smart", "fast"], ["a/x"], {"a": "mistral"}, params=["temperature", "messages"])


def record(metrics: Metrics, call: Call, seconds: float = 1.0) -> None:
    """Record a call that took `seconds`."""
    CallMetrics(metrics).record(call, call.started + seconds)


def target_named(name: str = "a/x") -> Target:
    """Return a Mistral target of provider `a`."""
    return Target(name, "a", providers.get("mistral"), name.partition("/")[2], "http://x/v1")


def finished_call(model: str = "smart", *, target: str = "a/x", stream: bool = False) -> Call:
    """Return a call answered after 30 ms, or a stream with its first content after 10 ms."""
    call = Call("chat", "/v1/chat/completions")
    call.model, call.status, call.stream = model, 200, stream
    call.read_at = call.started
    call.first_byte_at = call.started + (0.01 if stream else 0.0304)
    call.key = VirtualKey("team")
    attempt = Attempt(target_named(target), ms=30.0, sent_at=call.started + 0.0002, ended_at=call.started + 0.03)
    attempt.usage = Usage(10, 21, 3, 4)
    attempt.cost = 1_500_000
    attempt.adjustments = [
        Adjustment("temperature", "clamp"),
        Adjustment("made-up", "drop"),
        Adjustment("messages[3].role", "role_map"),
    ]
    call.attempts, call.answered_by = [attempt], attempt
    return call


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of a scrape."""
    families = text_string_to_metric_families(metrics.expose().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the value of one sample."""
    return samples(metrics)[name, frozenset(labels.items())]

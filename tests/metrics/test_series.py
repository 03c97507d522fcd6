"""The limit on the number of series: a scrape stays small and complete, whatever names occur."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from gateway.call import Call
from gateway.errors import GatewayError
from gateway.keys.virtual_key import VirtualKey
from gateway.metrics import Metrics
from gateway.metrics.declarations import MAX_KEYS, MAX_SERIES
from gateway.metrics.series import bounded
from gateway.telemetry.call_metrics import CallMetrics
from providers.base import Adjustment, Usage
from tests.support.metrics import finished_call, record, samples


def line_count(metrics: Metrics) -> int:
    """Return the number of series of a scrape."""
    return sum(not line.startswith("#") for line in metrics.expose().decode().splitlines())


def call_with_new_names(number: int) -> Call:
    """Return a call in which every name is new."""
    call = finished_call(f"model-{number}", target=f"p{number}/m{number}", stream=number % 2 == 0)
    call.key = VirtualKey(f"key-{number}")
    (attempt,) = call.attempts
    attempt.outcome, attempt.ms = str(400 + number % 200), 1.0
    attempt.adjustments = [Adjustment(f"param-{number}", "drop")]
    attempt.usage = Usage(number, number, 1, 1, estimated=number % 3 == 0)
    if number % 2:
        call.error = GatewayError("no", code=f"code_{number}", status=400 + number % 200)
        call.status = call.error.status
    return call


@pytest.mark.parametrize("step", [50, pytest.param(7, marks=pytest.mark.prove)])
def test_s10_100_000_names_make_at_most_2000_series_and_little_memory(step: int) -> None:
    metrics = Metrics(["smart"], ["a/x"], {"a": "mistral"}, params=["temperature"])
    recorder = CallMetrics(metrics)
    for number in range(2000):
        call = call_with_new_names(number)
        recorder.record(call, call.started + 1)
    tracemalloc.start()
    for number in range(2000, 100_000, step):
        call = call_with_new_names(number)
        recorder.record(call, call.started + 1)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert line_count(metrics) <= MAX_SERIES
    assert grown < 5 << 20
    assert sum(metrics.counts["lockgate_requests"].values()) == 2000 + len(range(2000, 100_000, step))
    assert len({key for key, *_ in metrics.counts["lockgate_key_requests"]}) == MAX_KEYS + 1
    samples(metrics)


@pytest.mark.parametrize("max_series", [500, 2000, 5000])
def test_configuration_with_many_names_stays_within_max_series_and_counts_everything(max_series: int) -> None:
    models, targets = [f"m{number}" for number in range(60)], [f"a/t{number}" for number in range(200)]
    metrics = Metrics(models, targets, {"a": "mistral"}, max_series=max_series)
    recorder, draw = CallMetrics(metrics), random.Random(1)
    for number in range(4000):
        call = finished_call(draw.choice(models), target=draw.choice(targets), stream=number % 2 == 0)
        call.key = VirtualKey(f"key-{number % 300}")
        recorder.record(call, call.started + 1)
    metrics.gauge("lockgate_target_state", lambda: {(name, "live"): 1.0 for name in targets})
    for name in models:
        metrics.count("lockgate_fallbacks", (name,))
    assert line_count(metrics) <= max_series
    assert sum(metrics.counts["lockgate_requests"].values()) == 4000
    assert sum(metrics.counts["lockgate_fallbacks"].values()) == 60
    scrape = samples(metrics)
    assert sum(n for (name, _), n in scrape.items() if name == "lockgate_request_duration_seconds_count") == 4000
    assert sum(n for (name, _), n in scrape.items() if name == "lockgate_target_state") == 200


def test_implausible_token_counts_and_costs_are_ignored() -> None:
    metrics = Metrics(["smart"], ["a/x"], {"a": "mistral"})
    for tokens in (10**30, -(10**30), 10**9):
        call = finished_call()
        call.attempts[0].usage, call.attempts[0].cost = Usage(tokens, 1, tokens, tokens), 10**22
        record(metrics, call)
    assert metrics.counts["lockgate_tokens"]["smart", "a/x", "prompt", "reported"] == 10**9
    assert samples(metrics)["lockgate_cost_usd_total", frozenset({("model", "smart"), ("target", "a/x")})] > 10**9


def test_bounded_snapshot_keeps_all_counts() -> None:
    snapshot = {"lockgate_fallbacks": {(f"m{number}",): [1] for number in range(2000)}}
    rows = bounded(snapshot, 500)["lockgate_fallbacks"]
    assert len(rows) <= 500
    assert sum(cells[0] for cells in rows.values()) == 2000
    assert rows["other",][0] > 1

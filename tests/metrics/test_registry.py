"""The registry: gauges that are read at scrape time, and names that may become label values."""

from __future__ import annotations

from gateway.metrics.registry import Metrics
from tests.support.metrics import finished_call, new_metrics, record, samples, target_named, value


def test_gauges_are_read_at_scrape_and_disappear_with_their_values() -> None:
    metrics = new_metrics()
    values = {("a/x", "cooling"): 1.0}
    metrics.gauge("lockgate_target_state", lambda: values)
    metrics.gauge("lockgate_store_errors", lambda: {("deadline",): 7.0})
    metrics.in_flight = 3
    assert value(metrics, "lockgate_target_state", target="a/x", state="cooling") == 1
    assert value(metrics, "lockgate_store_errors_total", kind="deadline") == 7
    assert value(metrics, "lockgate_requests_in_flight") == 3
    values.clear()
    assert ("lockgate_target_state", frozenset({("target", "a/x"), ("state", "cooling")})) not in samples(metrics)


def test_names_of_a_reloaded_configuration_become_label_values_and_earlier_ones_stay() -> None:
    metrics = new_metrics()
    record(metrics, finished_call("later"))
    metrics.add_names(["later"], ["a/y"])
    record(metrics, finished_call("later"))
    record(metrics, finished_call("smart"))
    assert [labels[0] for labels in metrics.counts["lockgate_requests"]] == ["other", "later", "smart"]


def test_unknown_target_keeps_the_name_of_its_provider() -> None:
    metrics = Metrics([], ["a/x"], {"a": "mistral"})
    assert metrics.target_label(target_named("a/made-up")) == "a/other"
    assert metrics.target_label(None) == "none"

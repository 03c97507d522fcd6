"""Snapshots of several processes, merged."""

from __future__ import annotations

import copy
from pathlib import Path

from gateway.metrics import Metrics, text
from gateway.metrics.cells import Cells
from gateway.metrics.snapshot import merge, read_file
from tests.support.metrics import finished_call, new_metrics, record, samples


def test_merged_counters_equal_those_of_a_single_process(tmp_path: Path) -> None:
    single, paths = new_metrics(), [tmp_path / str(number) for number in range(3)]
    workers = [
        Metrics(["smart", "fast"], ["a/x"], {"a": "mistral"}, params=["temperature", "messages"], cells=Cells(path))
        for path in paths
    ]
    for number in range(30):
        call = finished_call("fast" if number % 2 else "smart", stream=number % 3 == 0)
        for metrics in (single, workers[number % 3]):
            record(metrics, call, number / 10)
            metrics.count("lockgate_internal_errors")
    merged = new_metrics()
    merged.collect_from(lambda: [read_file(path) for path in paths])
    found, expected = samples(merged), samples(single)
    assert set(found) == set(expected)
    assert all(abs(found[key] - expected[key]) < 1e-6 for key in expected if key[0] != "lockgate_series")


def test_gauges_are_merged_by_their_rule_and_absent_ones_are_ignored() -> None:
    workers = [new_metrics(), new_metrics()]
    for number, metrics in enumerate(workers):
        metrics.in_flight = number + 1
        metrics.gauge("lockgate_event_loop_lag_seconds", lambda number=number: {(): 0.5 - number / 10})
        metrics.gauge("lockgate_store_up", lambda number=number: {(): float(number)})
        metrics.gauge("lockgate_target_in_flight", lambda number=number: {("a/x",): 2.0} if number else {})
    scrape = text.classic(merge([metrics.snapshot() for metrics in workers])).decode()
    assert "lockgate_requests_in_flight 3.0\n" in scrape
    assert "lockgate_event_loop_lag_seconds 0.5\n" in scrape
    assert "lockgate_store_up 0.0\n" in scrape
    assert 'lockgate_target_in_flight{target="a/x"} 2.0\n' in scrape


def test_merge_does_not_change_its_arguments() -> None:
    metrics = new_metrics()
    record(metrics, finished_call())
    first, second = metrics.snapshot(), metrics.snapshot()
    before = copy.deepcopy(first)
    merge([first, second])
    merge([second, first])
    assert first == before

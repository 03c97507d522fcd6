"""Several processes' series as one: files that outlive their process, rules for gauges, and calls that a killed worker never ended."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from gateway.metrics import Metrics, text
from gateway.metrics.cells import Cells, remove
from gateway.metrics.snapshot import after_end, merge, read_file
from tests.metrics.test_recording import call, metrics, samples


def test_counters_of_several_processes_add_up_to_what_one_would_count(tmp_path: Path) -> None:
    together = metrics()
    paths = [tmp_path / str(number) for number in range(3)]
    parts = [Metrics(["smart", "fast"], ["a/x"], {"a": "mistral"}, params=["temperature", "messages"], cells=Cells(path)) for path in paths]
    for number in range(30):
        ended = call("fast" if number % 2 else "smart", stream=number % 3 == 0)
        for one in (together, parts[number % 3]):
            one.record(ended, ended.started + number / 10)
            one.count("lockgate_internal_errors")
    shown = metrics()
    shown.collect_from(lambda: [read_file(path) for path in paths])
    found, expected = samples(shown), samples(together)
    assert set(found) == set(expected)
    assert all(abs(found[key] - expected[key]) < 1e-6 for key in expected if key[0] != "lockgate_series")


def test_gauges_follow_their_rule_and_absent_ones_say_nothing() -> None:
    parts = [metrics(), metrics()]
    for number, one in enumerate(parts):
        one.in_flight = number + 1
        one.gauge("lockgate_event_loop_lag_seconds", lambda number=number: {(): 0.5 - number / 10})
        one.gauge("lockgate_store_up", lambda number=number: {(): float(number)})
        one.gauge("lockgate_target_in_flight", lambda number=number: {("a/x",): 2.0} if number else {})
    shown = text.classic(merge([one.snapshot() for one in parts])).decode()
    assert "lockgate_requests_in_flight 3.0\n" in shown
    assert "lockgate_event_loop_lag_seconds 0.5\n" in shown
    assert "lockgate_store_up 0.0\n" in shown
    assert 'lockgate_target_in_flight{target="a/x"} 2.0\n' in shown


def test_the_newest_traced_call_of_a_bucket_is_shown_whichever_process_had_it(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    for number, path in enumerate(paths):
        one = Metrics(["smart"], ["a/x"], {"a": "mistral"}, cells=Cells(path))
        for seconds in (0.03, 3.0 + number):
            ended = call()
            ended.trace = cast(Any, SimpleNamespace(id=f"{number + 10:x}" * 32 if seconds < 3 else f"{number + 1}" * 32))
            one.record(ended, ended.started + seconds)
            time.sleep(0.003)
    shown = metrics()
    shown.collect_from(lambda: [read_file(path) for path in paths])
    families = openmetrics_families(text.openmetrics(shown.whole()).decode())
    (found,) = [family for family in families if family.name == "lockgate_request_duration_seconds"]
    examples = {sample.labels["le"]: sample.exemplar for sample in found.samples if sample.exemplar is not None}
    assert {bound: (one.labels["trace_id"], round(one.value, 6)) for bound, one in examples.items()} == {
        "0.04": ("c" * 32, 0.03),
        "5.12": ("3" * 32, 5.0),
    }


def test_merging_changes_none_of_them() -> None:
    one = metrics()
    one.record(call(), 1e9)
    first, second = one.snapshot(), one.snapshot()
    before = copy.deepcopy(first)
    merge([first, second])
    merge([second, first])
    assert first == before


PROGRAM = """
import sys, time
from pathlib import Path
from gateway.metrics import Metrics
from gateway.metrics.cells import Cells
one = Metrics(["smart"], ["a/x"], cells=Cells(Path(sys.argv[1])))
one.in_flight += 2
for number in range(1000):
    one.count("lockgate_upstream_requests", (f"a/{number % 7}",))
print("counted", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_counted_is_all_there(tmp_path: Path) -> None:
    path = tmp_path / "cells"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == b"counted\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = after_end(read_file(path))
    assert sum(cells[0] for cells in found["lockgate_upstream_requests"].values()) == 1000
    assert found["lockgate_requests"] == {("other", "none", "none", "other", "5xx", "worker_lost"): [2]}
    assert "lockgate_requests_in_flight" not in found
    remove(path)
    assert list(tmp_path.iterdir()) == []
    assert read_file(path) == {}


def test_a_line_that_was_not_written_whole_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cells"
    one = Metrics(cells=Cells(path))
    one.count("lockgate_retries", ("a",))
    with Path(f"{path}.names").open("ab") as names:
        names.write(b'["lockgate_retries",["b"],')
    assert read_file(path)["lockgate_retries"] == {("a",): [1]}

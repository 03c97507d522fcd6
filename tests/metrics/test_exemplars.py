"""Trace exemplars of the call duration histogram."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.metrics import Metrics, exemplars, text
from gateway.metrics.cells import Cells
from gateway.metrics.snapshot import read_file
from tests.support.metrics import finished_call, new_metrics, record


def test_latest_traced_call_of_a_bucket_is_its_exemplar_in_whichever_process_it_was(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    for number, path in enumerate(paths):
        worker = Metrics(["smart"], ["a/x"], {"a": "mistral"}, cells=Cells(path))
        for seconds in (0.03, 3.0 + number):
            call = finished_call()
            trace_id = f"{number + 10:x}" * 32 if seconds < 3 else f"{number + 1}" * 32
            call.trace = cast(Any, SimpleNamespace(id=trace_id))
            record(worker, call, seconds)
            time.sleep(0.003)
    merged = new_metrics()
    merged.collect_from(lambda: [read_file(path) for path in paths])
    families = text_string_to_metric_families(text.openmetrics(merged.merged_snapshot()).decode())
    (family,) = [family for family in families if family.name == "lockgate_request_duration_seconds"]
    exemplars = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar is not None}
    assert {bound: (one.labels["trace_id"], round(one.value, 6)) for bound, one in exemplars.items()} == {
        "0.04": ("c" * 32, 0.03),
        "5.12": ("3" * 32, 5.0),
    }


def test_later_exemplar_of_a_bucket_is_kept() -> None:
    first, second = [0] * exemplars.WIDTH, [0] * exemplars.WIDTH
    view = memoryview(bytearray(8 * exemplars.WIDTH)).cast("q")
    exemplars.put(view, 0, "f" * 32, 0.03)
    first = view.tolist()
    (read,) = [each for each in exemplars.read(exemplars.newest(second, first)) if each is not None]
    assert (read.trace_id, read.value) == ("f" * 32, 0.03)

"""Cells in a file: counts survive the process that made them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from gateway.metrics import Metrics
from gateway.metrics.cells import Cells, remove
from gateway.metrics.snapshot import after_end, read_file

COUNTING_PROGRAM = """
import sys, time
from pathlib import Path
from gateway.metrics import Metrics
from gateway.metrics.cells import Cells
metrics = Metrics(["smart"], ["a/x"], cells=Cells(Path(sys.argv[1])))
metrics.in_flight += 2
for number in range(1000):
    metrics.count("lockgate_upstream_requests", (f"a/{number % 7}",))
print("counted", flush=True)
time.sleep(60)
"""


def test_counts_of_a_killed_process_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "cells"
    command = [sys.executable, "-c", COUNTING_PROGRAM, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == b"counted\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    counts = after_end(read_file(path))
    assert sum(cells[0] for cells in counts["lockgate_upstream_requests"].values()) == 1000
    assert counts["lockgate_requests"] == {("other", "none", "none", "other", "5xx", "worker_lost"): [2]}
    assert "lockgate_requests_in_flight" not in counts
    remove(path)
    assert list(tmp_path.iterdir()) == []
    assert read_file(path) == {}


def test_incomplete_last_line_of_the_names_file_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "cells"
    metrics = Metrics(cells=Cells(path))
    metrics.count("lockgate_retries", ("a",))
    with Path(f"{path}.names").open("ab") as names:
        names.write(b'["lockgate_retries",["b"],')
    assert read_file(path)["lockgate_retries"] == {("a",): [1]}


def test_full_cells_count_new_label_sets_as_other() -> None:
    cells = Cells(size=4)
    assert [cells.take("family", (str(number),), 2) for number in range(3)] == [0, 2, -1]

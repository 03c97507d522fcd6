"""Run the benchmark: `python -m benchmarks`. A wrong answer is an error; a slow one is only reported."""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.apis import CALLS
from benchmarks.measure import cost, idle_memory, memory_kib, request_body
from benchmarks.processes import (
    Load,
    Target,
    compile_programs,
    nginx_version,
    run_load,
    start_gateway,
    start_mock,
    start_nginx,
    stop,
)
from benchmarks.report import Figures, markdown

RESULTS = Path(__file__).parent / "RESULTS.md"
LOADS = [
    ("JSON c=1", request_body(False), 1),
    ("JSON c=32", request_body(False), 32),
    ("SSE c=1", request_body(True), 1),
    ("SSE c=32", request_body(True), 32),
    ("SSE c=64, events 20 ms apart", request_body(True, "#delay=20000#"), 64),
]
REPAIRS = [
    ("object, created and index missing, role repeated", request_body(True, "#form=1#")),
    ("id, created and usage new in every chunk", request_body(True, "#form=2#")),
    ("no two chunks alike: each is decoded", request_body(True, "#form=3#")),
]
"""Streams that need repair in every chunk, all with 32 connections."""
SLOW_STREAMS = 2000
SLOW_EVENTS, SLOW_DELAY = 20, 0.5


def main() -> None:
    """Parse the arguments, run the benchmark, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one short repetition and write no file")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file for the Markdown report")
    arguments = parser.parse_args()
    repetitions, seconds = (1, 0.7) if arguments.quick else (arguments.repetitions, arguments.seconds)
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-") as name:
        text = markdown(run(Path(name), repetitions, seconds))
    print(text)
    if not arguments.quick:
        arguments.output.write_text(text)
        print(f"written to {arguments.output}")


def run(folder: Path, repetitions: int, seconds: float) -> Figures:
    """Measure both targets in one run, alternating within each repetition."""
    compile_programs(folder)
    mock, upstream = start_mock(folder)
    targets: list[Target] = []
    try:
        targets.append(start_gateway(folder, upstream, request_body(False)))
        nginx = start_nginx(folder, upstream, request_body(False))
        targets += [nginx] if nginx else []
        figures = Figures(nginx=nginx_version())
        for target in targets:
            figures.started[target.name] = target.started
            figures.idle_kib[target.name] = idle_memory(target)
        for repetition in range(repetitions):
            print(f"repetition {repetition + 1} of {repetitions}", flush=True)
            measure_costs(folder, targets, seconds, figures)
        for target in targets:
            print(f"{SLOW_STREAMS:,} slow streams through {target.name}", flush=True)
            figures.stream_kib[target.name] = slow_streams(folder, target)
    finally:
        for process in [*(target.process for target in targets), mock]:
            stop(process)
    return figures


def measure_costs(folder: Path, targets: list[Target], seconds: float, figures: Figures) -> None:
    """Run one repetition: every load on every target, with the targets alternating, then repairs and other APIs."""
    for load, body, connections in LOADS:
        for target in targets:
            microseconds, answered = cost(folder, target, body, connections, seconds)
            figures.add(load, target.name, microseconds, answered.completed / answered.seconds)
    for repair, body in REPAIRS:
        untouched, _ = cost(folder, targets[0], request_body(True), 32, seconds)
        microseconds, _ = cost(folder, targets[0], body, 32, seconds)
        figures.add_repair(repair, microseconds, untouched)
    for name, call in CALLS.items():
        untouched, _ = cost(folder, targets[0], call.chat, 32, seconds)
        microseconds, _ = cost(folder, targets[0], call.body, 32, seconds, call.path, call.events)
        figures.add_api(name, microseconds, untouched)


def slow_streams(folder: Path, target: Target) -> float:
    """Return the PSS per stream in KiB, measured after 70 % of the duration of 2,000 open streams. All streams must complete."""
    before = memory_kib(target.process.pid)
    body = request_body(True, f"#chunks={SLOW_EVENTS}##delay={SLOW_DELAY * 1e6:.0f}#")
    outcome: list[Load | RuntimeError] = []

    def drive() -> None:
        try:
            outcome.append(run_load(folder, target.port, body, SLOW_STREAMS, 60, SLOW_EVENTS, times=1))
        except RuntimeError as error:
            outcome.append(error)

    driving = threading.Thread(target=drive)
    driving.start()
    time.sleep(SLOW_EVENTS * SLOW_DELAY * 0.7)
    during = memory_kib(target.process.pid)
    driving.join()
    if isinstance(outcome[0], RuntimeError):
        raise outcome[0]
    return (during - before) / SLOW_STREAMS


if __name__ == "__main__":
    main()

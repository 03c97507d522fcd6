"""Run the benchmark: `python -m benchmarks`. A wrong answer ends the run, unless a peer gave it; a slow answer is only reported."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import takewhile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.conditions import Watch
from benchmarks.peers import PEERS
from benchmarks.processes import BrokenTargetError
from benchmarks.report import markdown, plots
from benchmarks.sections import SECTIONS, Section

HERE = Path(__file__).parent
QUICK_SECONDS = 0.25


def main() -> None:
    """Parse the arguments, run the benchmark, print the report, and write it to a file unless sections were left out."""
    arguments = _parser().parse_args()
    chosen = _chosen(arguments)
    repetitions, seconds = (1, QUICK_SECONDS) if arguments.quick else (arguments.repetitions, arguments.seconds)
    peers = tuple(PEERS) if arguments.peers else ()
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-") as name:
        bench = Bench(Path(name), seconds, quick=arguments.quick, peers=peers)
        try:
            run(bench, chosen, repetitions)
        except BrokenTargetError as error:
            sys.exit(f"benchmark: {error}")
        finally:
            bench.close()
    text = markdown(bench.figures, watch.finish(), peers)
    print(text)
    if not arguments.quick and not arguments.only:
        output = arguments.output or HERE / ("PEERS.md" if peers else "RESULTS.md")
        output.write_text(text)
        for path, plot in plots(bench.figures, bool(peers)).items():
            (output.parent / path).parent.mkdir(exist_ok=True)
            (output.parent / path).write_text(plot)
        print(f"written to {output}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one short repetition, without the slowest sections, and write no file")
    parser.add_argument(
        "--only", help="comma-separated sections to run, without writing a file: " + ", ".join(each.name for each in SECTIONS)
    )
    parser.add_argument("--peers", action="store_true", help="compare with other gateways, which `make bench-peers` installs")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="length of one measurement")
    parser.add_argument("--output", type=Path, help="file for the Markdown report; plots are written next to it")
    return parser


def _chosen(arguments: argparse.Namespace) -> list[Section]:
    """Return the sections to run. Exit with a one-line message if the name of a section is unknown."""
    names = [section.name for section in SECTIONS if section.compared or not arguments.peers]
    if arguments.quick:
        names = [section.name for section in SECTIONS if section.name in names and section.quick]
    if arguments.only:
        asked = arguments.only.split(",")
        if unknown := [name for name in asked if name not in {section.name for section in SECTIONS}]:
            sys.exit(f"benchmark: there is no section {', '.join(unknown)}. Sections: {', '.join(each.name for each in SECTIONS)}")
        names = asked
    return [section for section in SECTIONS if section.name in names]


def run(bench: Bench, sections: list[Section], repetitions: int) -> None:
    """Run the sections that come before the repetitions, then the repetitions, then the remaining sections."""
    first = list(takewhile(lambda section: not section.repeated, sections))
    last = [section for section in sections if not section.repeated and section not in first]
    repeated = [section for section in sections if section.repeated]
    began = time.monotonic()
    steps = [(section, "") for section in first]
    steps += [(section, f", repetition {at + 1} of {repetitions}") for at in range(repetitions) for section in repeated]
    steps += [(section, "") for section in last]
    for at, (section, which) in enumerate(steps):
        print(f"[{time.monotonic() - began:4.0f} s, {at + 1} of {len(steps)}] {section.title}{which}", file=sys.stderr, flush=True)
        section.measure(bench)


if __name__ == "__main__":
    main()

"""The load that other processes put on the machine during a run, which determines whether its absolute figures are meaningful."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import CPU, column
from benchmarks.figures import Figures
from benchmarks.measure import busy_seconds
from benchmarks.processes import version_of
from benchmarks.targets import CONTROL, NGINX

MAX_OTHERS = 0.05
"""Largest share of the cores that other processes use in a quiet run."""
MAX_DEVIATION = 0.05
"""Largest deviation of the median ratio of two equal nginx processes from 1 in a quiet run."""


@dataclass
class Conditions:
    """The state of the machine before and during a run."""

    load_before: float
    """Load average of the minute before the run."""
    seconds: float = 0
    others: float = 0
    """Share of all cores that processes outside the run used."""

    def quiet(self, figures: Figures) -> bool:
        """Return whether the run was quiet: other processes used little CPU time, and two equal nginx processes cost nearly the same."""
        return self.others <= MAX_OTHERS and self.deviation(figures) <= MAX_DEVIATION

    @staticmethod
    def deviation(figures: Figures) -> float:
        """Return the largest deviation of the median of a control ratio from 1, or infinity if the control was not measured."""
        rows = figures.tables.get("control", {})
        ratios = [figures.ratio("control", row, column(CONTROL, CPU), column(NGINX, CPU)) for row in rows]
        return max((abs(ratio.median - 1) for ratio in ratios if ratio), default=float("inf"))


class Watch:
    """Measures the conditions of a run. End all processes before `finish`: the kernel adds the CPU time of a child when the child ends."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._began, self._busy, self._own = time.monotonic(), busy_seconds(), _own_seconds()

    def finish(self) -> Conditions:
        """Return the conditions from the start until now."""
        seconds = time.monotonic() - self._began
        others = busy_seconds() - self._busy - (_own_seconds() - self._own)
        return Conditions(self._load, seconds, max(0.0, others) / seconds / (os.cpu_count() or 1))


def _own_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def machine() -> str:
    """Return processor, kernel and versions in one line."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    count = max(1, info.count("processor\t"))
    versions = [version_of(name, argument) for name, argument in (("nginx", "-v"), ("redis-server", "--version"))]
    parts = [f"{count} x {names[0] if names else platform.machine()}", f"Linux {platform.release().partition('-')[0]}"]
    parts += [f"Python {platform.python_version()}", versions[0] or "nginx is not installed: no ratios"]
    parts += [" ".join(versions[1].split()[:3])] if versions[1] else []
    return "; ".join(part.removeprefix("nginx version: ") for part in parts)

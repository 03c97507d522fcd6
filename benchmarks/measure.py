"""CPU time, instructions and memory of a process tree."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from benchmarks.instructions import count_instructions
from benchmarks.processes import LOAD_CORE, Load, Pace, Request, Target, run_load

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP_S = 0.25


class Cost(NamedTuple):
    """The CPU time and the instructions of a request, and the report of the load. `instructions` is None if they are not counted."""

    microseconds: float
    instructions: float | None
    load: Load
    store_microseconds: float | None = None
    """CPU time of a request in the store, which is not part of the target's process tree. None if it is not measured."""


def process_tree(root: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields:
                parents[int(folder.name)] = int(fields[1])
    tree = [root]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def cpu_seconds(root: int) -> float:
    """Return the user and system time of the tree."""
    ticks = 0
    for pid in process_tree(root):
        fields = _stat(pid)
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / TICKS


def memory_kib(root: int) -> int:
    """Return the proportional set size (PSS) of the tree, in KiB."""
    total = 0
    for pid in process_tree(root):
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found.group(1)) if found else 0
    return total


def busy_seconds() -> float:
    """Return the CPU seconds of all processes of the machine, including time that the hypervisor gave to other machines (steal)."""
    fields = (PROC / "stat").read_text().partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


def cost(folder: Path, target: Target, request: Request, pace: Pace, cores: set[int] = LOAD_CORE, store: int | None = None) -> Cost:
    """After a short warm-up, return the cost of a request in the target's process tree, and, if given, in the process `store`.

    Raise BrokenTargetError if any answer is wrong.
    """
    run_load(folder, target, request, Pace(pace.connections, min(WARM_UP_S, pace.seconds / 2), pace.times, pace.rate), cores)
    tree = process_tree(target.process.pid)
    counter = count_instructions(tree)
    before, store_before = cpu_seconds(target.process.pid), cpu_seconds(store) if store else 0.0
    load = run_load(folder, target, request, pace, cores)
    spent = max(cpu_seconds(target.process.pid) - before, 1 / TICKS)  # the kernel reports whole ticks
    instructions = None
    if counter:
        instructions = counter.read() / load.completed
        counter.close()
    of_store = (cpu_seconds(store) - store_before) / load.completed * 1e6 if store else None
    return Cost(spent / load.completed * 1e6, instructions, load, of_store)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command name, or an empty list if the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []

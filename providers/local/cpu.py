"""What this machine's processor can do for the engine: whether it can run it at all, and on how many cores."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def missing_feature(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> str | None:
    """The instruction set the engine's wheel needs and the processor lacks; None when it will run or nobody can tell."""
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return None
    try:
        text = cpuinfo.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("flags"):
            return None if "avx2" in line.split() else "AVX2"
    return None


def usable_cores(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores this process may use: its affinity, and a container's quota where that is less (cgroup v2: `QUOTA PERIOD` or `max PERIOD`)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return cores

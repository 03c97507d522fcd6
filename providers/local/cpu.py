"""Whether this machine's processor can run the engine at all."""

from __future__ import annotations

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

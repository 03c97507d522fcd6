"""What the kernel says a process tree used: CPU time and memory."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from benchmarks.processes import Load, Target, run_load

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
BODY_BYTES = 1460


def request_body(stream: bool, text: str = "") -> bytes:
    """A chat request of a fixed size; `text` tells the mock its pace."""
    message = {
        "model": "bench",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 256,
        "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}],
        **({"stream": True} if stream else {}),
    }
    padding = BODY_BYTES - len(json.dumps(message, separators=(",", ":")))
    message["messages"][1]["content"] = text + "x" * padding  # type: ignore[index]
    return json.dumps(message, separators=(",", ":")).encode()


def process_tree(root: int) -> list[int]:
    """The process and all its descendants."""
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
    """User and system time of the tree so far."""
    ticks = 0
    for pid in process_tree(root):
        fields = _stat(pid)
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / TICKS


def memory_kib(root: int) -> int:
    """The tree's proportional share of memory (PSS), in KiB."""
    total = 0
    for pid in process_tree(root):
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found.group(1)) if found else 0
    return total


def cost(folder: Path, target: Target, body: bytes, connections: int, seconds: float) -> tuple[float, Load]:
    """CPU microseconds of the tree for each request, after a short warm-up."""
    events = 51 if b'"stream":true' in body else 0
    run_load(folder, target.port, body, connections, min(0.3, seconds), events)
    before = cpu_seconds(target.process.pid)
    load = run_load(folder, target.port, body, connections, seconds, events)
    return (cpu_seconds(target.process.pid) - before) / load.completed * 1e6, load


def idle_memory(target: Target) -> int:
    """PSS in KiB once nothing happens any more."""
    time.sleep(1)
    return memory_kib(target.process.pid)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat after the command's name (which may hold spaces); empty when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []

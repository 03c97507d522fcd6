"""CPU time and memory of a process tree, read from /proc."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from benchmarks.processes import CHAT_PATH, Load, Target, run_load

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
BODY_BYTES = 1460
CHAT_EVENTS = 51
"""Events of a stream of chat completions."""


def request_body(stream: bool, text: str = "") -> bytes:
    """Return a chat request of a fixed size. `text` contains the pacing commands for the mock."""
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


def cost(
    folder: Path,
    target: Target,
    body: bytes,
    connections: int,
    seconds: float,
    path: str = CHAT_PATH,
    events: int = CHAT_EVENTS,
) -> tuple[float, Load]:
    """After a short warm-up, return the CPU time of the tree per request in microseconds, and the report of the load.

    `events` is the number of events if the response is a stream.
    """
    events = events if b'"stream":true' in body else 0
    run_load(folder, target.port, body, connections, min(0.3, seconds), events, path=path)
    before = cpu_seconds(target.process.pid)
    load = run_load(folder, target.port, body, connections, seconds, events, path=path)
    return (cpu_seconds(target.process.pid) - before) / load.completed * 1e6, load


def idle_memory(target: Target) -> int:
    """Return the PSS of the tree in KiB after one second without load."""
    time.sleep(1)
    return memory_kib(target.process.pid)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command name, or an empty list if the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []

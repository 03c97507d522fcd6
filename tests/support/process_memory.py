"""Memory of processes, read from /proc."""

from __future__ import annotations

import re
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return _status_bytes(pid, "VmRSS")


def peak_resident_bytes(pid: int) -> int:
    """Return the highest resident memory of a process since its start."""
    return _status_bytes(pid, "VmHWM")


def proportional_bytes(pid: int) -> int:
    """Return the resident memory of a process with shared pages divided among their users (PSS)."""
    return _bytes_of("Pss", Path(f"/proc/{pid}/smaps_rollup").read_text())


def private_bytes(pid: int) -> int:
    """Return the resident memory of a process that no other process shares."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return _bytes_of("Private_Clean", text) + _bytes_of("Private_Dirty", text)


def _status_bytes(pid: int, field: str) -> int:
    return _bytes_of(field, Path(f"/proc/{pid}/status").read_text())


def _bytes_of(field: str, text: str) -> int:
    """Return the bytes of a field given in kB."""
    return 1024 * int(re.findall(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[0])

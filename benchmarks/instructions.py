"""Count the instructions of a process tree with perf_event_open(2). Virtual machines and containers often do not have this counter."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path

SYSCALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
HARDWARE, INSTRUCTIONS = 0, 1
"""PERF_TYPE_HARDWARE and PERF_COUNT_HW_INSTRUCTIONS of linux/perf_event.h."""
SOFTWARE, TASK_CLOCK = 1, 1
"""PERF_TYPE_SOFTWARE and PERF_COUNT_SW_TASK_CLOCK, in nanoseconds. Every kernel has it."""
_ATTRIBUTES_BYTES = 128
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class Counter:
    """Counts an event in all threads of the given processes, and in the threads and processes that they start.

    The counter runs until it is closed. Only instructions in user mode are counted, because unprivileged users may not count
    instructions in the kernel.
    """

    def __init__(self, processes: Iterable[int], kind: int = HARDWARE, event: int = INSTRUCTIONS) -> None:
        """Start to count. Raise OSError if the kernel does not offer the event or does not allow it."""
        self._files: list[int] = []
        number = SYSCALLS.get(platform.machine())
        if number is None:
            raise OSError(f"the number of perf_event_open is unknown on {platform.machine()}")
        attributes = struct.pack("=IIQQQQQ", kind, _ATTRIBUTES_BYTES, event, 0, 0, 0, _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR)
        buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_BYTES)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            for thread in _threads(processes):
                file = libc.syscall(number, buffer, thread, -1, -1, 0)
                if file < 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
                self._files.append(file)
        except OSError:
            self.close()
            raise

    def read(self) -> int:
        """Return the count so far."""
        return sum(int.from_bytes(os.read(file, 8), "little") for file in self._files)

    def close(self) -> None:
        """Stop counting."""
        for file in self._files:
            os.close(file)
        self._files.clear()


def _threads(processes: Iterable[int]) -> list[int]:
    return [int(task.name) for process in processes for task in Path(f"/proc/{process}/task").iterdir()]


def count_instructions(processes: Iterable[int]) -> Counter | None:
    """Return a running counter of instructions, or None if this machine does not count them."""
    try:
        return Counter(processes)
    except OSError:
        return None

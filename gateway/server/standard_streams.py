"""The standard streams of a process that was started without some of them, as by `lockgate <&- >&-`."""

from __future__ import annotations

import contextlib
import os
import sys


def open_missing_streams() -> None:
    """Connect each missing stream to /dev/null. Call this before the process opens anything.

    A socket would otherwise get the number of the stream: a worker replaces its stdin, and the log is written to stdout.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # always the lowest free number
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def flush_streams() -> None:
    """Write what is buffered for stdout and stderr, if they are read."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()

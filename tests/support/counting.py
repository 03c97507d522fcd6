"""Counts of function calls, for tests of how the work grows with the number of entries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def python_calls(work: Callable[[], object]) -> int:
    """Return the number of Python functions that `work` calls in this thread."""
    count, before = 0, sys.getprofile()

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count

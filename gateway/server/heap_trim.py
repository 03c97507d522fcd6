"""Returns free memory of the C heap to the system after a burst of calls.

glibc returns only the free memory at the end of its heap. The requests of a burst are freed between blocks that live on, such as the
connections, so their pages stay with the process: 1 to 4 KiB for each of 2,000 open streams (measured).
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable

CHECK_S = 2.0
MIN_INTERVAL_S = 10.0
MIN_CALLS = 100
"""Number of calls since the last trim that make another one worthwhile."""
MAX_FREE_WHILE_SERVING = 32 << 20
"""Free bytes above which a trim waits until no call is in flight. A trim blocks the process for 0.2 ms per MB (measured)."""

_SIZES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Mallinfo2(ctypes.Structure):
    """The structure that mallinfo2() returns."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _SIZES)


class Heap:
    """The heap of the C library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raise AttributeError if the library is not a glibc of version 2.33 or later."""
        self._trim, self._info = library.malloc_trim, library.mallinfo2
        self._trim.argtypes, self._info.restype = [ctypes.c_size_t], _Mallinfo2

    def free_bytes(self) -> int:
        """Return the number of free bytes, including those whose pages the system has already."""
        return int(self._info().fordblks)

    def trim(self) -> None:
        """Return the pages that have only free bytes."""
        self._trim(0)


def heap() -> Heap | None:
    """Return the heap, or None if the C library cannot return free memory, as on macOS and with musl."""
    try:
        return Heap(ctypes.CDLL(None))
    except (AttributeError, OSError):
        return None


class HeapTrimmer:
    """Trims the heap at the start and after bursts: when many calls have begun and their number is stable again.

    Under load, memory that was just freed is soon used again, so a trim in the middle of a burst would be in vain.
    """

    def __init__(
        self, heap: Heap | None, in_flight: Callable[[], int], answered: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`in_flight` and `answered` return the number of calls in flight and of all requests that were answered."""
        self._heap = heap
        self._in_flight = in_flight
        self._answered = answered
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._last_in_flight = self._begun_at_trim = 0
        self._trimmed_at = float("-inf")

    def start(self) -> None:
        """Trim the heap, which has the garbage of the start, and begin to check it."""
        if self._heap is not None:
            self._heap.trim()
            self._schedule()

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Trim the heap if that is worthwhile now and blocks no calls for long."""
        before, self._last_in_flight = self._last_in_flight, self._in_flight()
        now, in_flight = self._clock(), self._last_in_flight
        begun = in_flight + self._answered()
        is_stable = abs(in_flight - before) <= max(MIN_CALLS, in_flight) // 4
        if self._heap is None or not is_stable or begun - self._begun_at_trim < MIN_CALLS or now - self._trimmed_at < MIN_INTERVAL_S:
            return
        self._trimmed_at = now
        if not in_flight or self._heap.free_bytes() <= MAX_FREE_WHILE_SERVING:
            self._begun_at_trim = begun
            self._heap.trim()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CHECK_S, self._run)

    def _run(self) -> None:
        self.check()
        self._schedule()

"""Free heap memory is returned to the system after bursts, but not in their middle, and not while that would block calls."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from pathlib import Path

import pytest

from gateway.server.heap_trim import MAX_FREE_WHILE_SERVING, MIN_CALLS, MIN_INTERVAL_S, Heap, HeapTrimmer, heap

HAS_HEAP = pytest.mark.skipif(heap() is None, reason="the C library cannot return free memory")


class FakeHeap(Heap):
    """A heap that counts its trims."""

    def __init__(self) -> None:
        self.free = self.trims = 0

    def free_bytes(self) -> int:
        """Return the number that the test has set."""
        return self.free

    def trim(self) -> None:
        """Count the trim."""
        self.trims += 1


class Burst:
    """A trimmer, its heap, its clock and the numbers of calls."""

    def __init__(self) -> None:
        self.heap = FakeHeap()
        self.now = 1000.0
        self.in_flight = self.answered = 0
        self.trimmer = HeapTrimmer(self.heap, lambda: self.in_flight, lambda: self.answered, lambda: self.now)

    def check(self, in_flight: int = 0, *, later: float = 0) -> int:
        """Check once with this number of calls in flight. Return the number of trims so far."""
        self.in_flight = in_flight
        self.now += later
        self.trimmer.check()
        return self.heap.trims


def test_heap_is_trimmed_once_the_calls_of_a_burst_have_begun() -> None:
    burst = Burst()
    assert [burst.check(count) for count in (0, 900, 2000, 2000, 2000)] == [0, 0, 0, 1, 1]


def test_heap_is_trimmed_after_the_end_of_a_burst() -> None:
    burst = Burst()
    assert [burst.check(count) for count in (2000, 2000)] == [0, 1]
    burst.answered = 2000
    assert burst.check(0, later=MIN_INTERVAL_S) == 1
    assert burst.check(0) == 1, "no call has begun since the last trim"
    burst.answered += MIN_CALLS
    assert burst.check(0) == 2


def test_trims_are_rare_under_a_steady_load() -> None:
    burst = Burst()
    for _ in range(20):
        burst.answered += 10_000
        burst.check(64, later=MIN_INTERVAL_S / 4)
    assert burst.heap.trims == 5


def test_few_calls_cause_no_trim() -> None:
    burst = Burst()
    assert [burst.check(count) for count in (0, MIN_CALLS // 4, MIN_CALLS // 4)] == [0, 0, 0]


def test_large_heap_is_trimmed_when_no_call_would_be_blocked() -> None:
    burst = Burst()
    burst.heap.free = MAX_FREE_WHILE_SERVING + 1
    assert [burst.check(2000, later=MIN_INTERVAL_S) for _ in range(3)] == [0, 0, 0]
    burst.answered = 2000
    assert [burst.check(0, later=MIN_INTERVAL_S) for _ in range(3)] == [0, 1, 1]


async def test_trimmer_trims_at_the_start_and_checks_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.heap_trim.CHECK_S", 0.0)
    burst, checks = Burst(), asyncio.Event()
    monkeypatch.setattr(burst.trimmer, "check", checks.set)
    burst.trimmer.start()
    assert burst.heap.trims == 1
    for _ in range(2):
        await asyncio.wait_for(checks.wait(), 30)
        checks.clear()
    burst.trimmer.stop()
    checks.clear()
    await asyncio.sleep(0.05)
    assert not checks.is_set()


async def test_without_a_heap_nothing_is_checked() -> None:
    trimmer = HeapTrimmer(None, lambda: 5000, lambda: 5000)
    trimmer.start()
    trimmer.check()
    trimmer.stop()


def test_library_without_these_functions_has_no_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        malloc_trim = None

        def __getattr__(self, name: str) -> None:
            raise AttributeError(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    assert heap() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@HAS_HEAP
def test_trim_returns_pages_between_blocks_that_are_in_use() -> None:
    real = heap()
    assert real is not None
    size, count = 20_000, 2000
    blocks: list[bytes | None] = [os.urandom(size) for _ in range(count)]
    free_before = real.free_bytes()
    for at in range(count):
        if at % 10:
            blocks[at] = None
    freed = size * count * 9 // 10
    assert real.free_bytes() - free_before > freed // 2
    before = _resident()
    real.trim()
    assert before - _resident() > freed // 2


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

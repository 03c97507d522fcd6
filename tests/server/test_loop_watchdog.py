"""A call that blocks the event loop is reported while it blocks."""

from __future__ import annotations

import asyncio
import time

from gateway.server.loop_watchdog import LoopWatchdog


def pause(seconds: float) -> None:
    """Block the event loop for this time."""
    time.sleep(seconds)


def blocks(reports: list[str], count: int) -> None:
    """Block the event loop until this number of reports names this function, and then for longer than a report takes."""
    deadline = time.monotonic() + 60
    while len([line for line in reports if " blocks" in line]) < count:
        assert time.monotonic() < deadline, reports
        pause(0.01)
    pause(0.5)


async def test_p10_a_blocked_loop_is_reported_once_with_its_place_while_it_lasts() -> None:
    reports: list[str] = []
    watchdog = LoopWatchdog(reports.append, max_block_s=0.2)
    watchdog.start()
    try:
        for count in (1, 2):
            await asyncio.sleep(0.2)
            blocks(reports, count)
    finally:
        watchdog.stop()
    ours = [line for line in reports if " blocks" in line]  # a machine that pauses is reported too
    assert len(ours) == 2
    assert all("event loop blocked for " in line and "test_loop_watchdog.py:" in line for line in ours)


async def test_a_busy_loop_is_not_reported() -> None:
    reports: list[str] = []
    watchdog = LoopWatchdog(reports.append, max_block_s=2.0)
    watchdog.start()
    began = now = time.monotonic()
    longest = 0.0
    while now < began + 1.0:
        pause(0.02)
        await asyncio.sleep(0)
        longest, now = max(longest, time.monotonic() - now), time.monotonic()
    watchdog.stop()
    assert reports == [] or longest > 1.0  # unless the machine paused

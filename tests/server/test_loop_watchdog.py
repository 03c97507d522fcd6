"""A call that blocks the event loop is reported while it blocks."""

from __future__ import annotations

import asyncio
import time

from gateway.server.loop_watchdog import LoopWatchdog


def blocks(seconds: float) -> None:
    """Block the event loop."""
    time.sleep(seconds)


async def test_p10_a_blocked_loop_is_reported_once_with_its_place_while_it_lasts() -> None:
    for _ in range(5):
        reports = await reports_of_two_blocks()
        if len(reports) == 2:
            return
        assert len(reports) > 2  # the machine itself paused for a fifth of a second: try again
    raise AssertionError(reports)


async def reports_of_two_blocks() -> list[str]:
    """Block the loop twice, check that each is reported meanwhile, and return all reports."""
    reports: list[tuple[float, str]] = []
    watchdog = LoopWatchdog(lambda line: reports.append((time.monotonic(), line)), max_block_s=0.2)
    watchdog.start()
    try:
        await asyncio.sleep(0.3)
        for _ in range(2):
            began = time.monotonic()
            blocks(2.0)
            ended = time.monotonic()
            await asyncio.sleep(0.3)
            (line,) = [line for at, line in reports if began < at < ended and "test_loop_watchdog.py:13 blocks" in line]
            assert "event loop blocked for " in line
    finally:
        watchdog.stop()
    return [line for _, line in reports]


async def test_a_busy_loop_is_not_reported() -> None:
    reports: list[str] = []
    watchdog = LoopWatchdog(reports.append, max_block_s=2.0)
    watchdog.start()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        blocks(0.02)
        await asyncio.sleep(0)
    watchdog.stop()
    assert reports == []

"""P10: a call that blocks the event loop is found out while it blocks."""

from __future__ import annotations

import asyncio
import time

from gateway.watchdog import Watchdog


def blocks(seconds: float) -> None:
    """What no coroutine may do."""
    time.sleep(seconds)


async def test_p10_a_standstill_is_told_once_with_the_place_while_it_lasts() -> None:
    told: list[tuple[float, str]] = []
    watchdog = Watchdog(lambda line: told.append((time.monotonic(), line)), patience=0.2)
    watchdog.start()
    try:
        await asyncio.sleep(0.3)
        assert told == []
        for _ in range(2):
            blocks(2.0)
            ended = time.monotonic()
            await asyncio.sleep(0.3)
            (at, line), told[:] = told[0], told[1:]
            assert told == []
            assert at < ended
            assert "the event loop has stood still for " in line
            assert "test_watchdog.py:13 blocks" in line
    finally:
        watchdog.stop()


async def test_a_loop_that_is_only_busy_is_left_alone() -> None:
    told: list[str] = []
    watchdog = Watchdog(told.append, patience=2.0)
    watchdog.start()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        blocks(0.02)
        await asyncio.sleep(0)
    watchdog.stop()
    assert told == []

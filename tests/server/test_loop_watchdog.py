"""P10: a call that blocks the event loop is found out while it blocks."""

from __future__ import annotations

import asyncio
import time

from gateway.server.loop_watchdog import LoopWatchdog


def blocks(seconds: float) -> None:
    """What no coroutine may do."""
    time.sleep(seconds)


async def test_p10_a_standstill_is_told_once_with_the_place_while_it_lasts() -> None:
    for _ in range(5):
        told = await standing_still()
        if len(told) == 2:
            return
        assert len(told) > 2  # the machine stood still too, for a fifth of a second: another try
    raise AssertionError(told)


async def standing_still() -> list[str]:
    """What is told of two standstills, each of them while it lasts."""
    told: list[tuple[float, str]] = []
    watchdog = LoopWatchdog(lambda line: told.append((time.monotonic(), line)), max_block_s=0.2)
    watchdog.start()
    try:
        await asyncio.sleep(0.3)
        for _ in range(2):
            began = time.monotonic()
            blocks(2.0)
            ended = time.monotonic()
            await asyncio.sleep(0.3)
            (line,) = [line for at, line in told if began < at < ended and "test_loop_watchdog.py:13 blocks" in line]
            assert "event loop blocked for " in line
    finally:
        watchdog.stop()
    return [line for _, line in told]


async def test_a_loop_that_is_only_busy_is_left_alone() -> None:
    told: list[str] = []
    watchdog = LoopWatchdog(told.append, max_block_s=2.0)
    watchdog.start()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        blocks(0.02)
        await asyncio.sleep(0)
    watchdog.stop()
    assert told == []

"""A bulkhead never exceeds its limit, admits the calls of a key in order of arrival, and loses no slot."""

from __future__ import annotations

import asyncio
import random

from gateway.targets.bulkhead import Bulkhead
from gateway.targets.fair_queue import Claim


async def acquire(bulkhead: Bulkhead, timeout_s: float) -> bool:
    """Take a slot, as an admission does. Return whether the call got one."""
    if bulkhead.has_room:
        bulkhead.enter()
        return True
    return await bulkhead.acquire(timeout_s, Claim("key", 100, 10)) is not None


async def test_calls_beyond_the_limit_and_the_queue_are_rejected() -> None:
    bulkhead = Bulkhead(2, 3, 5.0)
    assert [await acquire(bulkhead, 60), await acquire(bulkhead, 60)] == [True, True]
    waiting = [asyncio.create_task(acquire(bulkhead, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    assert bulkhead.waiting == 3
    assert not await acquire(bulkhead, 60)
    bulkhead.release()
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [True, False, False]
    bulkhead.release()
    bulkhead.release()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert (bulkhead.running, bulkhead.waiting) == (2, 0)


async def test_a_call_is_rejected_after_the_maximum_wait() -> None:
    bulkhead = Bulkhead(1, 5, 0.05)
    await acquire(bulkhead, 60)
    assert not await acquire(bulkhead, 60)
    assert not await acquire(Bulkhead(0, 5, 60.0), 0.01)
    assert (bulkhead.running, bulkhead.waiting) == (1, 0)


async def test_a_higher_limit_admits_queued_calls() -> None:
    bulkhead = Bulkhead(1, 5, 60.0)
    await acquire(bulkhead, 60)
    waiting = asyncio.create_task(acquire(bulkhead, 60))
    await asyncio.sleep(0)
    bulkhead.configure(2, 5, 60.0)
    assert await waiting


async def test_calls_cancelled_at_any_moment_neither_lose_nor_add_slots() -> None:
    draw = random.Random(7)
    bulkhead = Bulkhead(3, 50, 60.0)
    peak = 0

    async def call() -> None:
        nonlocal peak
        if await acquire(bulkhead, 60):
            try:
                peak = max(peak, bulkhead.running)
                await asyncio.sleep(draw.random() / 1000)
            finally:
                bulkhead.release()

    for _ in range(40):
        tasks = [asyncio.create_task(call()) for _ in range(20)]
        for task in tasks:
            if draw.random() < 0.5:
                asyncio.get_running_loop().call_later(draw.random() / 200, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)
    assert peak == 3


async def test_removing_the_limit_admits_every_queued_call() -> None:
    bulkhead = Bulkhead(1, 5, 60.0)
    await acquire(bulkhead, 60)
    waiting = [asyncio.create_task(acquire(bulkhead, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    bulkhead.remove_limit()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert bulkhead.running == 4

"""Turns at a target: never more than allowed, first come first served, nobody forgotten."""

from __future__ import annotations

import asyncio
import random

from gateway.targets.bulkhead import Bulkhead


async def test_so_many_run_so_many_wait_and_the_rest_is_turned_away() -> None:
    bulkhead = Bulkhead(2, 3, 5.0)
    assert [await bulkhead.acquire(60), await bulkhead.acquire(60)] == [True, True]
    waiting = [asyncio.create_task(bulkhead.acquire(60)) for _ in range(3)]
    await asyncio.sleep(0)
    assert bulkhead.waiting == 3
    assert not await bulkhead.acquire(60)
    bulkhead.release()
    await asyncio.sleep(0.01)
    assert [one.done() for one in waiting] == [True, False, False]
    bulkhead.release()
    bulkhead.release()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert (bulkhead.running, bulkhead.waiting) == (2, 0)


async def test_who_waits_too_long_is_turned_away() -> None:
    bulkhead = Bulkhead(1, 5, 0.05)
    await bulkhead.acquire(60)
    assert not await bulkhead.acquire(60)
    assert not await Bulkhead(0, 5, 60.0).acquire(0.01)
    assert (bulkhead.running, bulkhead.waiting) == (1, 0)


async def test_more_room_lets_in_who_waits() -> None:
    bulkhead = Bulkhead(1, 5, 60.0)
    await bulkhead.acquire(60)
    waiting = asyncio.create_task(bulkhead.acquire(60))
    await asyncio.sleep(0)
    bulkhead.configure(2, 5, 60.0)
    assert await waiting


async def test_no_turn_is_lost_or_made_up_by_who_leaves_in_any_moment() -> None:
    draw = random.Random(7)
    bulkhead = Bulkhead(3, 50, 60.0)
    most = 0

    async def call() -> None:
        nonlocal most
        if await bulkhead.acquire(60):
            try:
                most = max(most, bulkhead.running)
                await asyncio.sleep(draw.random() / 1000)
            finally:
                bulkhead.release()

    for _ in range(40):
        tasks = [asyncio.create_task(call()) for _ in range(20)]
        for one in tasks:
            if draw.random() < 0.5:
                asyncio.get_running_loop().call_later(draw.random() / 200, one.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)
    assert most == 3

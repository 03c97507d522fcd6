"""The timer that checks all open calls."""

from __future__ import annotations

import asyncio

from gateway.http.sweeper import Sweeper


class Item:
    """Records when it was swept."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.swept = asyncio.Event()

    def sweep(self, now: float) -> None:
        self.times.append(now)
        self.swept.set()


async def test_an_item_is_swept_with_the_time_of_the_clock_until_it_is_discarded() -> None:
    now = 100.0
    sweeper, item = Sweeper(tick=0.001, clock=lambda: now), Item()
    sweeper.add(item)
    assert len(sweeper) == 1
    await asyncio.wait_for(item.swept.wait(), 30)
    assert set(item.times) == {100.0}
    sweeper.discard(item)
    assert len(sweeper) == 0


async def test_an_empty_sweeper_stops_its_timer_and_starts_it_again() -> None:
    sweeper, first, second = Sweeper(tick=0.001), Item(), Item()
    sweeper.add(first)
    await asyncio.wait_for(first.swept.wait(), 30)
    sweeper.discard(first)
    while sweeper._timer is not None:  # noqa: ASYNC110 - the timer reports nothing when it stops
        await asyncio.sleep(0.001)
    sweeper.add(second)
    await asyncio.wait_for(second.swept.wait(), 30)
    sweeper.discard(second)


async def test_the_lag_is_how_late_a_tick_was() -> None:
    now = 100.0
    sweeper, item = Sweeper(tick=0.001, clock=lambda: now), Item()
    sweeper.add(item)
    now += 2.001
    await asyncio.wait_for(item.swept.wait(), 30)
    assert round(sweeper.lag, 3) == 2.0
    sweeper.discard(item)


async def test_the_sweeper_runs_only_while_it_has_items() -> None:
    seen: list[float] = []
    thrice = asyncio.Event()

    class Counted:
        def sweep(self, now: float) -> None:
            seen.append(now)
            if len(seen) % 3 == 0:
                thrice.set()

    sweeper, item = Sweeper(tick=0.01), Counted()
    for _ in range(2):
        thrice.clear()
        sweeper.add(item)
        await asyncio.wait_for(thrice.wait(), 20)
        sweeper.discard(item)
        assert len(sweeper) == 0
        count = len(seen)
        await asyncio.sleep(0.1)
        assert len(seen) == count
    assert seen == sorted(seen)

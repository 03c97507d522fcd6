"""Random calls of several limiters, quick enough for leases, and a record of what they were admitted for and what they used."""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, count

from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.redis import RedisLimiter
from tests.flows.live import eventually

_ids = count()


class Traffic:
    """Callers of several limiters.

    A call reserves up to `biggest` tokens and uses at most as many, or up to twice as many if `exceeds` is true.
    """

    def __init__(
        self, limiters: Sequence[RedisLimiter], limits: tuple[Limit, ...], seed: int, *, biggest: int = 200, hold_s: float = 0.002,
        exceeds: bool = False,
    ) -> None:  # fmt: skip
        self.limiters = limiters
        self._limits = limits
        self._draw = random.Random(seed)
        self._biggest = biggest
        self._hold_s = hold_s
        self._exceeds = exceeds
        self.record: list[tuple[int, int]] = []
        """The time of the admission of each call, and the tokens that it has used."""
        self.degraded = 0
        self.refusals: list[Refusal] = []
        self.open: dict[int, Reservation] = {}

    @property
    def used(self) -> list[int]:
        """The usage of all ended calls, under each limit."""
        calls, tokens = len(self.record), sum(size for _, size in self.record)
        return [calls if limit.kind == "requests" else tokens for limit in self._limits]

    @property
    def leased(self) -> int:
        """Number of calls that leases have admitted."""
        return sum(limiter.amount_leases.admitted for limiter in self.limiters)

    async def call(self, limiter: RedisLimiter) -> Reservation | None:
        """Admit a call, wait, and settle it. Return None if it is refused."""
        draw, number = self._draw, next(_ids)
        size = draw.randrange(1, self._biggest)
        known = limiter.amount_leases.admitted
        found = await limiter.admit(self._limits, Costs(1, size), f"t{number}")
        at = time.time_ns() // 1000 if limiter.amount_leases.admitted > known else found.decided_at
        if isinstance(found, Refusal):
            self.refusals.append(found)
            return None
        self.degraded += found.degraded
        self.open[number] = found
        if draw.random() < 0.5:
            await asyncio.sleep(draw.random() ** 3 * self._hold_s)
        actual = 0 if draw.random() < 0.1 else draw.randrange(size + 1) * (1 + self._exceeds)
        del self.open[number]
        self.record.append((at, actual))
        limiter.settle(found, Costs(1, actual))
        if draw.random() < 0.1:
            limiter.settle(found, Costs(1, actual))  # a second settlement changes nothing
        return found

    async def run(self, until: Callable[[], Awaitable[bool]], callers: int = 3) -> None:
        """Let each limiter have callers until `until` returns true."""
        running = True

        async def caller(limiter: RedisLimiter) -> None:
            while running:
                found = await self.call(limiter)
                await asyncio.sleep(0 if found is not None and not found.degraded else 0.001)

        tasks = [asyncio.create_task(caller(limiter)) for limiter in self.limiters for _ in range(callers)]
        while not await until():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        running = False
        await asyncio.gather(*tasks)

    async def run_calls(self, calls: int, callers: int = 3) -> None:
        """Run until this number of calls have ended."""
        enough = len(self.record) + calls

        async def until() -> bool:
            return len(self.record) >= enough

        await self.run(until, callers)

    async def settle(self) -> None:
        """End the leases, and wait until Redis decides and has everything."""
        limiters = self.limiters
        await eventually(lambda: all(each.decides for each in limiters))
        for limiter in limiters:
            limiter.amount_leases.end_all()
        await eventually(lambda: all(each.decides and not each._settlements and not each._usage_replay._pending for each in limiters))
        await eventually(lambda: all(not each._in_flight for each in limiters))

    def fullest(self, window_s: float) -> tuple[int, int]:
        """Return the most calls and the most tokens that were admitted in any window that ends at an admission."""
        record = sorted(self.record)
        times = [at for at, _ in record]
        sums = [0, *accumulate(size for _, size in record)]
        calls = tokens = 0
        for index, at in enumerate(times):
            first = bisect_right(times, at - int(window_s * 1_000_000))
            calls, tokens = max(calls, index + 1 - first), max(tokens, sums[index + 1] - sums[first])
        return calls, tokens

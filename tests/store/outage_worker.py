"""One process of test_outage_proof: requests decisions all the time, and records the decisions and their waits."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.redis import RedisLimiter

REQUESTS, TOKENS, CALLS = 600, 12_000, 30
"""Limits: requests per second, tokens per second, concurrent calls."""
BIGGEST = 40
CALLERS = 16


def limits() -> list[Limit]:
    """Return the limits that all processes share."""
    return [Limit("proof", "requests", REQUESTS, "s"), Limit("proof", "tokens", TOKENS, "s"), Limit("proof", "concurrent", CALLS)]


class Worker:
    """Callers of one limiter."""

    def __init__(self, port: int, seed: int, seconds: float, deadline: float, hold: float) -> None:
        """Create a worker. `hold` is the average duration of a call."""
        self.limiter = RedisLimiter(RedisAddress(port=port), self.said, timeout_s=deadline)
        self._draw = random.Random(seed)
        self._seed = seed
        self._hold = hold
        self._until = time.monotonic() + seconds
        self._shared = limits()
        self._asked = 0
        self.lines: list[str] = []
        self.admitted: list[tuple[int, int, int, bool]] = []
        """For each admitted call: time of decision, size, time of settlement, decided by outage mode."""
        self.waited: list[tuple[int, float]] = []
        """Time and duration of decisions without a reply from the store."""
        self.waited_while_down = 0
        self.shared_at: list[int] = []
        """Times at which the store became available again."""

    def said(self, line: str) -> None:
        """Record a log line."""
        self.lines.append(line)

    async def decide(self, size: int) -> Reservation | Refusal:
        """Request one decision. With an open breaker it must complete without yielding to the event loop."""
        self._asked += 1
        asking = self.limiter.admit(self._shared, Costs(prompt_tokens=size), f"{self._seed}:{self._asked}")
        if self.limiter.connections.up:
            return await asking
        try:
            asking.send(None)
        except StopIteration as answered:
            found: Reservation | Refusal = answered.value
            return found
        self.waited_while_down += 1
        raise AssertionError("a decision waited although the breaker was open")

    async def call(self) -> None:
        """Reserve, wait and settle repeatedly."""
        while time.monotonic() < self._until:
            size, began, up = self._draw.randrange(1, BIGGEST), time.monotonic(), self.limiter.connections.up
            found = await self.decide(size)
            took = time.monotonic() - began
            if up and found.degraded and took > 0.001:
                self.waited.append((time.time_ns() // 1000, took))
            if isinstance(found, Reservation):
                await asyncio.sleep(self._draw.random() * 2 * self._hold)
                self.admitted.append((found.decided_at, size, time.time_ns() // 1000, found.degraded))
                self.limiter.settle(found, Costs(prompt_tokens=size))
            await asyncio.sleep(self._draw.random() * 0.01)

    async def watch(self) -> None:
        """Record when the store becomes available again."""
        was = True
        while time.monotonic() < self._until:
            up = self.limiter.connections.up
            if up and not was:
                self.shared_at.append(time.time_ns() // 1000)
            was = up
            await asyncio.sleep(0.005)

    async def run(self) -> dict[str, Any]:
        """Run all callers and return the records."""
        await self.limiter.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.gather(self.watch(), *(self.call() for _ in range(CALLERS)))
        slowest = self.limiter.connections.slowest_reply_s
        await self.limiter.stop()
        return {
            "admitted": self.admitted, "waited": self.waited, "waited_while_down": self.waited_while_down, "slowest": slowest,
            "shared_at": self.shared_at, "lines": self.lines, "errors": self.limiter.connections.errors,
        }  # fmt: skip


async def main(port: int, seed: int, seconds: float, deadline: float, hold: float, out: str) -> None:
    """Run one worker, and write its records to `out` as JSON."""
    found = await Worker(port, seed, seconds, deadline, hold).run()
    Path(out).write_text(json.dumps(found))  # noqa: ASYNC240


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]), sys.argv[6]))

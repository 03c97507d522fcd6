"""One process of test_limit_proof: requests many reservations and records when each was decided and settled."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.redis import RedisLimiter

REQUESTS, TOKENS, CALLS = 1500, 32_000, 40
"""Limits: requests per second, tokens per second, concurrent calls."""
BIGGEST = 40
CALLERS = 24


def limits() -> list[Limit]:
    """Return the limits that all processes share."""
    return [Limit("proof", "requests", REQUESTS, "s"), Limit("proof", "tokens", TOKENS, "s"), Limit("proof", "concurrent", CALLS)]


async def main(path: str, seed: int, asks: int, out: str) -> None:
    """Request `asks` reservations. Write JSON with the record: [[decided, size, settled], ...], with times in microseconds.

    The JSON also has the requests in each 0.1 s, the CPU time in seconds, and the numbers of degraded decisions and commands.
    """
    limiter = RedisLimiter(RedisAddress(path=path), lambda line: None, timeout_s=20.0)
    await limiter.start()
    draw = random.Random(seed)
    shared = limits()
    record: list[tuple[int, int, int]] = []
    left, degraded = asks, 0
    asked: Counter[int] = Counter()

    async def caller(number: int) -> None:
        nonlocal left, degraded
        while left > 0:
            left -= 1
            asked[time.time_ns() // 100_000_000] += 1
            size = draw.randrange(1, BIGGEST)
            decision = await limiter.admit(shared, Costs(prompt_tokens=size), f"{seed}:{left}")
            degraded += decision.degraded
            if isinstance(decision, Reservation):
                await asyncio.sleep(draw.random() * 0.01)
                record.append((decision.decided_at, size, time.time_ns() // 1000))
                limiter.settle(decision, Costs(prompt_tokens=size))
            else:
                await asyncio.sleep(min(decision.retry_after or 1.0, 0.01) * draw.random())

    began = time.process_time()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    used = time.process_time() - began
    commands = limiter.connections.commands
    await limiter.stop()
    found = {"record": record, "asked": asked, "degraded": degraded, "cpu": used, "commands": commands}
    Path(out).write_text(json.dumps(found))  # noqa: ASYNC240


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))

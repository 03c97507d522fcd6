"""One process of test_partition_proof: requests many calls, settles those that are admitted, and records both."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import uvloop

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.redis import RedisLimiter

REQUESTS, TOKENS = 1500, 30_000
"""Limits per second, for all processes together."""
BIGGEST = 40
CALLERS = 64
REST_S = 0.02
"""Average pause of a caller after a call. A process that is not slowed down requests about 2,500 calls per second."""
DEADLINE_S = 5.0
"""Longer than a busy machine delays a reply, so that only the partitions of the test are outages."""
NANO_PER_TOKEN = 12_345

WINDOWS = [Limit("proof", "requests", REQUESTS, "s"), Limit("proof", "tokens", TOKENS, "s")]
COUNTERS = [
    Limit("proof", "tokens", 10**12, "day"),
    Limit("proof", "spend", 10**15, "total"),
    Limit("proof", "spend", 10**15, "month", timezone="Asia/Kolkata"),
]
"""Limits that no call exceeds. At the end, their usage must include every token and every nano-dollar."""


class Worker:
    """The callers of one limiter."""

    def __init__(self, port: int, seed: int, calls: int) -> None:
        self.limiter = RedisLimiter(RedisAddress(port=port), lambda line: None, timeout_s=DEADLINE_S)
        self._draw = random.Random(seed)
        self._seed = seed
        self._left = calls
        self.admitted = array("q")
        """Triples: the time of the decision, the size of the call, and whether it was decided without the store."""
        self.tokens = self.nano = 0

    async def _call_all(self) -> None:
        limits, draw = [*WINDOWS, *COUNTERS], self._draw
        while self._left > 0:
            self._left -= 1
            size = draw.randrange(1, BIGGEST)
            costs = Costs(prompt_tokens=size, spend=size * NANO_PER_TOKEN)
            found = await self.limiter.admit(limits, costs, f"{self._seed}:{self._left}")
            if isinstance(found, Reservation):
                self.admitted.extend((found.decided_at, size, found.degraded))
                await asyncio.sleep(draw.random() * 0.01)
                spent = size * NANO_PER_TOKEN - draw.randrange(NANO_PER_TOKEN)
                self.tokens, self.nano = self.tokens + size, self.nano + spent
                self.limiter.settle(found, Costs(prompt_tokens=size, spend=spent))
            await asyncio.sleep(draw.random() * 2 * REST_S)

    async def run(self) -> dict[str, Any]:
        """Run all callers until the calls are used up, then wait until the store has received everything."""
        await self.limiter.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        began = time.process_time()
        await asyncio.gather(*(self._call_all() for _ in range(CALLERS)))
        limiter = self.limiter
        while not limiter.connections.up or limiter._settlements or limiter._usage_replay._pending:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # two heartbeats, which publish the spend
        await limiter.stop()
        return {"tokens": self.tokens, "nano": self.nano, "cpu": time.process_time() - began, "errors": limiter.connections.errors}


async def main(port: int, seed: int, calls: int, out: str) -> None:
    """Run one worker. Write its records to `out` as JSON, and its admitted calls to a file beside it."""
    worker = Worker(port, seed, calls)
    found = await worker.run()
    Path(f"{out}.admitted").write_bytes(worker.admitted.tobytes())  # noqa: ASYNC240
    Path(out).write_text(json.dumps(found))  # noqa: ASYNC240


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))

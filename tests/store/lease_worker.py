"""A process that holds a lease, with calls in flight and ended calls, and then stops doing anything."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from gateway.config.redis_address import RedisAddress
from gateway.store import amount_leases
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.redis import RedisLimiter

LIMIT = Limit("killed", "tokens", 100_000, "day")
RESERVED, USED = 20, 7


async def main(path: str) -> None:
    """Write a line of JSON: the number of calls that have ended, the last one under the lease, and of calls in flight under the lease."""
    amount_leases.HOT_GAP_S, amount_leases.MAX_LEASE_S = 5.0, 600.0
    limiter = RedisLimiter(RedisAddress(path=path), lambda line: None, timeout_s=20.0)
    await limiter.start()
    leases = limiter.amount_leases
    ended = 0
    while not leases.admitted:
        found = await limiter.admit((LIMIT,), Costs(1, RESERVED), f"ended{ended}")
        assert isinstance(found, Reservation)
        ended += 1
        limiter.settle(found, Costs(1, USED))
    for at in range(2):
        await limiter.admit((LIMIT,), Costs(1, RESERVED), f"open{at}")
    sys.stdout.write(json.dumps([ended, leases.admitted - 1]) + "\n")
    sys.stdout.flush()
    time.sleep(600)  # noqa: ASYNC251 a process that does nothing more, not even end its lease


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

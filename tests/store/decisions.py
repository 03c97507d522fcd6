"""Helpers that request decisions from a limiter and read the remaining amounts."""

from __future__ import annotations

import asyncio
import itertools

from gateway.store.limit import NO_SLOT, Costs, Limit, Refusal, Reservation
from gateway.store.redis import RedisLimiter

HOUR = Limit("k", "requests", 90, "h")
_ids = itertools.count()


async def decide(limiter: RedisLimiter, limit: Limit = HOUR) -> Reservation | Refusal:
    """Request one decision on a call with one prompt token."""
    return await limiter.admit([limit], Costs(prompt_tokens=1), f"m{next(_ids)}")


async def remaining(limiter: RedisLimiter, limit: Limit = HOUR) -> int:
    """Return the remaining amount of a limit, without charging it."""
    decision = await limiter.admit([limit], Costs(requests=0), f"m{next(_ids)}")
    if isinstance(decision, Reservation):
        limiter.settle(decision, Costs(requests=0))
    return decision.statuses[0].remaining + (limit.slot == NO_SLOT and isinstance(decision, Reservation))


async def wait_for_remaining(limiter: RedisLimiter, amount: int, limit: Limit = HOUR) -> None:
    """Wait until exactly `amount` remains of a limit."""
    end = asyncio.get_running_loop().time() + 30
    while (present := await remaining(limiter, limit)) != amount:
        assert asyncio.get_running_loop().time() < end, present
        await asyncio.sleep(0.05)

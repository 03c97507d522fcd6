"""Limits of one process in memory: windows and their slots."""

from __future__ import annotations

from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.memory import MemoryLimiter

HOUR = Limit("k", "requests", 90, "h")


async def test_memory_limiter_admits_the_full_limit() -> None:
    limiter = MemoryLimiter()
    found = [await limiter.admit([HOUR], Costs(), f"n{at}") for at in range(91)]
    assert [isinstance(one, Reservation) for one in found] == [True] * 90 + [False]

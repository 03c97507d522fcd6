"""Processes that have loaded different generations of a configuration."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Kind, Limit, Reservation
from tests.support.redis_fixtures import LimiterStarter


@pytest.mark.parametrize(("kind", "costs"), [("requests", Costs()), ("tokens", Costs(1, 1, 0)), ("concurrent", Costs())])
async def test_m5_two_generations_of_a_limit_admit_at_most_the_larger(
    redis: RedisAddress, start: LimiterStarter, kind: Kind, costs: Costs
) -> None:
    old, new = await start(redis), await start(redis)
    limits = {old: Limit("key:a", kind, 100, "h"), new: Limit("key:a", kind, 50, "h")}
    admitted = {old: 0, new: 0}
    for turn in range(15):
        for one, limit in limits.items():
            found = await asyncio.gather(*(one.admit((limit,), costs, f"{limit.amount}-{turn}-{at}") for at in range(10)))
            admitted[one] += sum(isinstance(answer, Reservation) for answer in found)
            if sum(admitted.values()) < 50:
                assert all(isinstance(answer, Reservation) for answer in found)
    assert sum(admitted.values()) == 100
    assert admitted[new] <= 50
    for one, limit in limits.items():
        assert not isinstance(await one.admit((limit,), costs, f"{limit.amount}-last"), Reservation)

"""A limiter that stops leaves in the store what was used, even if it waits for replies at that moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import amount_leases, gathering, runs, usage_replay
from gateway.store.amount_leases import HOT_CALLS, LeaseRequest
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.members import Members
from gateway.store.redis import RedisLimiter
from gateway.store.resp import OnReply
from tests.flows.live import eventually
from tests.store.test_leases_of_limiters import BOTH, long_leases, open_lease, started, used
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import run_command

__all__ = ["long_leases"]
pytestmark = pytest.mark.usefixtures("long_leases")
COST = Costs(1, 10)


@pytest.fixture(autouse=True)
def _calls_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls follow each other even on a busy machine."""
    monkeypatch.setattr(amount_leases, "HOT_GAP_S", 60.0)


@pytest.fixture
def _endless_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes gather after a loss of data until they stop."""
    for module in (runs, gathering):
        monkeypatch.setattr(module, "GATHER_S", 600.0)


async def admitted(limiter: RedisLimiter, id: str, limits: Sequence[Limit] = BOTH) -> Reservation:
    """Return an admitted call."""
    found = await limiter.admit(limits, COST, id)
    assert isinstance(found, Reservation)
    return found


async def heated(limiter: RedisLimiter) -> asyncio.Task[Any]:
    """Make calls until the next one requests a lease, and begin the next one."""
    for at in range(HOT_CALLS):
        limiter.settle(await admitted(limiter, f"warm{at}"), COST)
    return asyncio.create_task(limiter.admit(BOTH, COST, "last"))


@pytest.mark.parametrize("is_sent", [True, False], ids=["sent", "queued"])
async def test_a_lease_whose_decision_is_in_flight_is_returned(redis: RedisAddress, start: LimiterStarter, is_sent: bool) -> None:
    (limiter,) = await started(redis, start, 1)
    last = await heated(limiter)
    await asyncio.sleep(0)  # the task requests its decision
    assert limiter._queued
    (asked,) = limiter.amount_leases._asked
    assert isinstance(asked.future, LeaseRequest)
    if is_sent:
        await asyncio.sleep(0)
        assert limiter._in_flight
    await limiter.stop()
    assert isinstance(last.result(), Reservation)
    assert await used(redis) == [HOT_CALLS + 1, 10 * (HOT_CALLS + 1)]
    assert limiter.amount_leases.granted == 0
    assert limiter.amount_leases._lent == {}


async def test_a_call_that_is_cancelled_during_its_decision_leaves_no_usage(redis: RedisAddress, start: LimiterStarter) -> None:
    (limiter,) = await started(redis, start, 1)
    limiter.settle(await admitted(limiter, "first"), COST)
    cancelled = asyncio.create_task(limiter.admit(BOTH, COST, "cancelled"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert limiter._in_flight
    cancelled.cancel()
    await limiter.stop()
    assert await used(redis) == [1, 10]


def lent(limiter: RedisLimiter) -> int:
    """Return the number of calls for which the limiter has leases."""
    return sum(lease.reservation.costs.requests for lease in limiter.amount_leases._leases)


@pytest.mark.usefixtures("_endless_gathering")
async def test_the_usage_of_an_outage_is_reported_if_the_process_stops_while_processes_gather(
    redis: RedisAddress, start: LimiterStarter
) -> None:
    limiter, _ = await started(redis, start, 2)
    await open_lease(limiter)
    ended, running = await admitted(limiter, "ended"), await admitted(limiter, "running")
    assert limiter.amount_leases._calls.keys() == {"ended", "running"}
    before = (await used(redis))[0] - lent(limiter)
    await run_command(redis, "FLUSHALL")
    await eventually(lambda: limiter.connections.errors.get("lost", 0) > 0 and limiter.connections.up)
    assert not limiter.decides
    limiter.settle(ended, Costs(1, 4))
    degraded = [await admitted(limiter, f"degraded{at}") for at in range(3)]
    assert all(each.degraded for each in degraded)
    limiter.settle(degraded[0], Costs(1, 3))
    limiter.settle(degraded[1], Costs(1, 3))
    await limiter.stop()
    # 10 for each of the calls that are in flight: one of the lease, and one of the outage
    assert await used(redis) == [before + 2 + 3, 10 * before + 4 + 3 + 3 + 10 + 10]
    assert running.run


async def test_all_usage_is_replayed_before_the_process_stops(
    redis: RedisAddress, start: LimiterStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_replay, "MAX_IN_FLIGHT", 1)
    monkeypatch.setattr(usage_replay, "MAX_ENTRIES_PER_COMMAND", 1)
    (limiter,) = await started(redis, start, 1)
    limits = tuple(Limit(f"k{at}", "requests", 100, "day") for at in range(5))
    limiter.connections._on_change(False)
    for limit in limits:
        limiter.settle(await admitted(limiter, limit.owner, (limit,)), COST)
    limiter.connections._on_change(True)
    assert limiter.decides
    await limiter.stop()
    assert await used(redis, limits) == [1] * 5


async def call(limiter: RedisLimiter, limits: Sequence[Limit], id: str, draw: random.Random) -> int:
    """Make a call, which may be cancelled during its decision. Return the tokens that it has used, or -1 if it was cancelled."""
    deciding = asyncio.ensure_future(limiter.admit(limits, Costs(1, draw.randrange(1, 60), 0, 5), id))
    if draw.random() < 0.3:
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        deciding.cancel()
    try:
        found = await deciding
    except asyncio.CancelledError:
        return -1
    assert isinstance(found, Reservation)
    await asyncio.sleep(0.01 * draw.random() ** 3)
    tokens = draw.randrange(100)
    limiter.settle(found, Costs(1, tokens, 0, 7))
    return tokens


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_stays_reserved_if_the_process_stops_while_calls_are_cancelled(
    redis: RedisAddress, start: LimiterStarter, seed: int
) -> None:
    draw, (limiter,) = random.Random(seed), await started(redis, start, 1)
    sets = [
        BOTH, tuple(Limit("p", limit.kind, limit.amount, "day", side="target") for limit in BOTH),
        (Limit("c", "requests", 10**6, "day"), Limit("c", "concurrent", 10**6), Limit("c", "spend", 10**15, "total")),
    ]  # fmt: skip
    used_tokens: list[list[int]] = [[], [], []]

    async def caller(at: int, name: str) -> None:
        for number in range(80):
            tokens = await call(limiter, sets[at], f"{name}.{number}", draw)
            used_tokens[at] += [tokens] * (tokens >= 0)

    await asyncio.gather(*(caller(at, f"{at}.{number}") for at in range(3) for number in range(2)))
    last = [asyncio.create_task(limiter.admit(limits, COST, f"last{at}")) for at, limits in enumerate(sets)]
    for _ in range(1 + draw.randrange(3)):
        await asyncio.sleep(0)
    for at, each in enumerate(last):
        if each.done():
            held = each.result()
            assert isinstance(held, Reservation)
            used_tokens[at].append(10)
            limiter.settle(held, Costs(1, 10, 0, 7))
        else:
            each.cancel()
    await limiter.stop()
    calls, tokens = [len(each) for each in used_tokens], [sum(each) for each in used_tokens]
    assert limiter.amount_leases.admitted > 0
    assert limiter._open == {}
    assert [await used(redis, limits) for limits in sets] == [[calls[0], tokens[0]], [calls[1], tokens[1]], [calls[2], 0, 7 * calls[2]]]


def test_a_process_that_has_left_sends_no_heartbeat() -> None:
    sent: list[tuple[str, OnReply]] = []
    forgotten: list[bool] = []
    members = Members(
        lambda script, keys, arguments, on_reply: sent.append((script, on_reply)), "me", 30_000_000, lambda: forgotten.append(True)
    )
    members.send_heartbeat({})
    members.leave(lambda: None)
    sent[0][1]([3, 5, 1, 0])  # another process has joined, and the store has lost the heartbeat before
    members.send_heartbeat({})
    assert len(sent) == 2
    assert forgotten == []

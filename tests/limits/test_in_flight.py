"""A refusal that is only due to calls in flight says so, with a short wait."""

from __future__ import annotations

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.limits.in_flight import BUSY_RETRY_S, InFlight
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from tests.support.redis_fixtures import LimiterStarter, start

__all__ = ["start"]
LIMIT = Limit("key:k", "tokens", 1000, "min")


class Clock:
    """A store whose time is set by the test."""

    def __init__(self) -> None:
        self.now = 10**12
        self.store = MemoryLimiter(lambda: self.now)
        self.in_flight = InFlight()

    def take(self, tokens: int, id: str) -> Reservation:
        decision = self.store.decide([LIMIT], Costs(1, tokens), id)
        assert isinstance(decision, Reservation)
        self.in_flight.add(decision)
        return decision

    def settle(self, reservation: Reservation, tokens: int) -> None:
        self.store.settle(reservation, Costs(1, tokens))
        self.in_flight.remove(reservation)

    def refused(self, tokens: int) -> Refusal:
        costs = Costs(1, tokens)
        decision = self.store.decide([LIMIT], costs, "refused")
        assert isinstance(decision, Refusal)
        return self.in_flight.judge(decision, costs)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_call_that_would_fit_without_reservations_waits_shortly(clock: Clock) -> None:
    held = clock.take(800, "a")
    refusal = clock.refused(300)
    assert (refusal.busy, refusal.retry_after) == (True, BUSY_RETRY_S)
    clock.settle(held, 100)
    clock.take(300, "b")


def test_a_limit_that_is_used_up_says_its_window(clock: Clock) -> None:
    clock.settle(clock.take(800, "a"), 800)
    clock.take(100, "b")
    refusal = clock.refused(300)
    assert not refusal.busy
    assert refusal.retry_after is not None
    assert refusal.retry_after > 50


def test_a_call_that_never_fits_has_no_wait(clock: Clock) -> None:
    clock.take(800, "a")
    refusal = clock.refused(1001)
    assert (refusal.busy, refusal.retry_after) == (False, None)


def test_reservations_that_are_older_than_the_window_do_not_count(clock: Clock) -> None:
    clock.take(900, "old")
    clock.now += 120 * 1_000_000
    clock.settle(clock.take(900, "a"), 900)
    assert not clock.refused(300).busy


async def test_a_refusal_of_redis_is_judged_in_the_same_way(redis: RedisAddress, start: LimiterStarter) -> None:
    store, in_flight, costs = await start(redis), InFlight(), Costs(1, 300)
    held = await store.admit([LIMIT], Costs(1, 800), "a")
    assert isinstance(held, Reservation)
    in_flight.add(held)
    refusal = await store.admit([LIMIT], costs, "b")
    assert isinstance(refusal, Refusal)
    assert not refusal.busy
    assert in_flight.judge(refusal, costs).busy
    in_flight.remove(held)
    assert not in_flight.judge(refusal, costs).busy


def test_settled_reservations_are_forgotten(clock: Clock) -> None:
    clock.settle(clock.take(100, "a"), 100)
    assert clock.in_flight._open == {}

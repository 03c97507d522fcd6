"""Limits of one process in memory: windows and their slots."""

from __future__ import annotations

import math
import time

import pytest

from gateway.store.limit import NO_COSTS, US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter, Window, is_longer, steady_now
from gateway.store.periods import DAY_US
from gateway.store.settled_spend import SettledSpend, SpendEntry
from tests.support.each import each

HOUR = Limit("k", "requests", 90, "h")


async def test_memory_limiter_admits_the_full_limit() -> None:
    limiter = MemoryLimiter()
    found = [await limiter.admit([HOUR], Costs(), f"n{at}") for at in range(91)]
    assert [isinstance(one, Reservation) for one in found] == [True] * 90 + [False]


def test_the_clock_counts_microseconds_since_1970() -> None:
    assert abs(steady_now() / US_PER_S - time.time()) < 3600


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 20_000 * DAY_US + 12 * 3600 * US_PER_S

    def __call__(self) -> int:
        return self.now


DAY = Limit("k", "spend", 100, "day")


def spend(limiter: MemoryLimiter, amount: int, id: str, limit: Limit = DAY) -> Reservation | Refusal:
    """Spend an amount."""
    found = limiter.decide([limit], Costs(spend=amount), id)
    if isinstance(found, Reservation):
        limiter.settle(found, Costs(spend=amount))
    return found


def test_a_clock_set_back_does_not_open_a_budget_again() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    assert isinstance(spend(limiter, 100, "a"), Reservation)
    clock.now -= DAY_US
    assert isinstance(spend(limiter, 1, "b"), Refusal)
    clock.now += 2 * DAY_US
    assert isinstance(spend(limiter, 100, "c"), Reservation)
    clock.now -= 1 * DAY_US
    assert isinstance(spend(limiter, 1, "d"), Refusal)


def test_inherited_spend_counts_in_its_period() -> None:
    clock = Clock()
    spent = SettledSpend("new")
    spent.merge(SpendEntry("old", DAY.key, 20_000, 60))
    limiter = MemoryLimiter(clock, spent)
    assert isinstance(spend(limiter, 41, "a"), Refusal)
    assert isinstance(spend(limiter, 40, "b"), Reservation)


def test_a_call_settled_in_the_next_period_is_charged_to_its_own() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    held = limiter.decide([DAY], Costs(spend=90), "a")
    assert isinstance(held, Reservation)
    clock.now += DAY_US
    assert isinstance(spend(limiter, 100, "b"), Reservation)
    limiter.settle(held, Costs(spend=90))
    assert isinstance(spend(limiter, 1, "c"), Refusal)
    assert limiter.settled_spend.total(DAY.key, 20_000) == 90


def test_forced_calls_are_charged_over_the_limit() -> None:
    limiter = MemoryLimiter(Clock())
    for at in range(3):
        found = limiter.decide([Limit("k", "requests", 2, "h")], Costs(), f"f{at}", force=True)
        assert isinstance(found, Reservation)
        assert found.statuses[0].remaining == max(0, 1 - at)


def test_a_charge_at_another_time_is_in_the_slot_of_that_time() -> None:
    clock = Clock()
    limiter, minute = MemoryLimiter(clock), Limit("k", "requests", 2, "min")
    assert isinstance(limiter.decide([minute], Costs(2), "f", force=True, at_time=clock.now + 30 * US_PER_S), Reservation)
    clock.now += 61 * US_PER_S
    assert isinstance(limiter.decide([minute], Costs(), "a"), Refusal)
    clock.now += 30 * US_PER_S
    assert isinstance(limiter.decide([minute], Costs(), "b"), Reservation)


async def test_expired_windows_are_removed_and_those_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.memory.SWEEP_AFTER_ADMISSIONS", 101)
    clock = Clock()
    limiter = MemoryLimiter(clock)
    for at in range(50):
        limiter.decide([Limit(f"u{at}", "requests", 5, "min")], Costs(), f"u{at}")
    hour = Limit("k", "requests", 10**6, "h")
    limiter.decide([hour], Costs(7), "seven")
    spend(limiter, 3, "spent")
    clock.now += 62 * US_PER_S
    for at in range(48):
        limiter.settle(limiter.decide([hour], NO_COSTS, f"n{at}"), NO_COSTS)  # type: ignore[arg-type]
    assert len(limiter._windows) == 51
    limiter.decide([hour], NO_COSTS, "last")
    assert set(limiter._windows) == {hour.key}
    assert [usage.used for usage in await limiter.usage([hour, DAY])] == [7, 3]
    clock.now += 4 * DAY_US
    for at in range(101):
        limiter.settle(limiter.decide([hour], NO_COSTS, f"m{at}"), NO_COSTS)  # type: ignore[arg-type]
    assert limiter.settled_spend.total(DAY.key, 20_000) == 0


def test_an_ended_concurrent_call_leaves_nothing_behind() -> None:
    limiter, calls = MemoryLimiter(Clock()), Limit("k", "concurrent", 2)
    held = [limiter.decide([calls], Costs(), id) for id in "ab"]
    refusal = limiter.decide([calls], Costs(), "c")
    assert isinstance(refusal, Refusal)
    assert (refusal.retry_after, refusal.busy, refusal.statuses[0].reset_s) == (1.0, False, 0.0)
    for one in held:
        assert isinstance(one, Reservation)
        assert one.statuses[0].reset_s == 0.0
        limiter.settle(one, NO_COSTS)
    assert limiter._leases == {}
    assert limiter._open == {}


async def test_the_reset_is_the_end_of_the_last_charge_or_of_the_period() -> None:
    clock = Clock()
    limiter, minute = MemoryLimiter(clock), Limit("k", "requests", 5, "min")
    found = limiter.decide([minute, DAY], Costs(spend=1), "a")
    assert [status.reset_s for status in found.statuses] == [60.0, 12 * 3600.0]
    assert [usage.reset_s for usage in await limiter.usage([minute, DAY])] == [60.0, 12 * 3600.0]
    assert [usage.reset_s for usage in await limiter.usage([Limit("free", "requests", 5, "min")])] == [0.0]
    clock.now += 2 * US_PER_S
    refusal = limiter.decide([Limit("free", "requests", 5, "min"), minute], Costs(5), "b")
    assert isinstance(refusal, Refusal)
    assert [status.reset_s for status in refusal.statuses] == [0.0, 58.5]
    assert refusal.decided_at == clock.now
    assert refusal.retry_after == 58.5


def test_usage_of_a_call_that_outlives_its_window_is_charged() -> None:
    clock = Clock()
    limiter, second = MemoryLimiter(clock), Limit("k", "tokens", 100, "s")
    held = limiter.decide([second], Costs(1, 10), "a")
    assert isinstance(held, Reservation)
    clock.now += 5 * US_PER_S
    limiter._until_sweep = 1
    other = limiter.decide([Limit("other", "tokens", 100, "s")], Costs(1, 10), "b")
    assert isinstance(other, Reservation)
    assert second.key not in limiter._windows
    limiter.settle(held, Costs(1, 10, 60))
    assert limiter.decide([second], Costs(1, 0), "c").statuses[0].remaining == 40


def test_amounts_of_a_window_become_free_slot_by_slot() -> None:
    window = Window(100)
    for slot, amount in ((100, 3), (101, 0), (102, 4), (105, 1)):
        assert window.advance(slot, 10) == slot
        window.add(slot, amount)
    assert window.sum == 8
    assert [window.slot_freeing(amount) for amount in (1, 3, 4, 7, 8, 9)] == [100, 100, 102, 102, 105, 105]
    assert window.advance(104, 10) == 105  # never back
    assert (window.advance(110, 10), window.sum) == (110, 8)
    assert (window.advance(111, 10), window.sum, window.low) == (111, 5, 101)
    assert (window.advance(113, 10), window.sum) == (113, 1)
    assert (window.advance(500, 10), window.sum, window.slots) == (500, 0, {})


@each(("wait", "other", "longer"), [(None, 5.0, True), (5.0, None, False), (None, None, False), (2.0, 1.0, True), (1.0, 1.0, False)])
def test_a_wait_without_an_end_is_the_longest(wait: float | None, other: float | None, longer: bool) -> None:
    assert is_longer(wait, other) is longer
    assert is_longer(math.inf, 10.0**9)
    assert is_longer(None, math.inf)


@pytest.mark.parametrize("used", [40, 60])
async def test_a_window_that_expired_takes_what_is_used_beyond_the_reservation(used: int) -> None:
    clock = Clock()
    limiter, tokens = MemoryLimiter(clock), Limit("k", "tokens", 1000, "min")
    held = limiter.decide([tokens], Costs(prompt_tokens=50), "a")
    assert isinstance(held, Reservation)
    clock.now += 300 * US_PER_S
    limiter.decide([tokens], Costs(prompt_tokens=5), "b")
    limiter.settle(held, Costs(prompt_tokens=used))
    assert [usage.used for usage in await limiter.usage([tokens])] == [5 + max(0, used - 50)]


async def test_only_budgets_report_what_calls_in_flight_reserve() -> None:
    limiter, calls = MemoryLimiter(Clock()), Limit("k", "concurrent", 5)
    for id, amount in (("a", 30), ("b", 4)):
        limiter.decide([HOUR, DAY, calls], Costs(spend=amount), id)
    spend(limiter, 50, "c")
    assert [(usage.used, usage.reserved) for usage in await limiter.usage([HOUR, DAY, calls])] == [(2, None), (84, 34), (2, None)]
    assert [usage.reserved for usage in await limiter.usage([Limit("unused", "spend", 5, "day")])] == [0]

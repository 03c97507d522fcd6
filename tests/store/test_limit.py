"""Decisions that all stores have in common: memory, a real Redis, Redis behind Sentinel, and a cluster of three nodes."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.store.limit import NANO_PER_USD, US_PER_S, Costs, Limit, Limiter, Refusal, Reservation
from gateway.store.periods import month_number, month_start

_ids = itertools.count()


async def ask(limiter: Limiter, *limits: Limit, **costs: int) -> Reservation | Refusal:
    """Request one decision with a new id."""
    return await limiter.admit(limits, Costs(**costs), f"t{next(_ids)}")


async def admitted(limiter: Limiter, *limits: Limit, **costs: int) -> Reservation:
    """Request a decision that must admit the call."""
    found = await ask(limiter, *limits, **costs)
    assert isinstance(found, Reservation), found
    return found


async def refused(limiter: Limiter, *limits: Limit, **costs: int) -> Refusal:
    """Request a decision that must refuse the call."""
    found = await ask(limiter, *limits, **costs)
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize("window", ["min", "h", "day"])
async def test_requests_are_admitted_up_to_the_limit(limiter: Limiter, window: str) -> None:
    limit = Limit("key:a", "requests", 5, window)
    for left in (4, 3, 2, 1, 0):
        assert (await admitted(limiter, limit)).statuses[0].remaining == left
    refusal = await refused(limiter, limit)
    assert refusal.limit is limit
    seconds = {"min": 60, "h": 3600, "day": 86400}[window]
    assert refusal.retry_after is not None
    assert 0.9 * seconds < refusal.retry_after <= seconds * 61 / 60


async def test_a_refusal_charges_nothing_anywhere(limiter: Limiter) -> None:
    many, few = Limit("key:a", "requests", 100, "min"), Limit("key:a", "tokens", 10, "min")
    await admitted(limiter, many, few, prompt_tokens=8)
    for _ in range(5):
        assert (await refused(limiter, many, few, prompt_tokens=3)).limit is few
    standings = (await admitted(limiter, many, few, prompt_tokens=2)).statuses
    assert [one.remaining for one in standings] == [98, 0]


async def test_no_retry_after_for_an_oversized_call_even_after_another_refusal(limiter: Limiter) -> None:
    limit = Limit("key:a", "tokens", 10, "h")
    await admitted(limiter, limit, prompt_tokens=8)
    assert (await refused(limiter, limit, prompt_tokens=3)).retry_after is not None
    assert (await refused(limiter, limit, prompt_tokens=11)).retry_after is None
    assert (await refused(limiter, limit, prompt_tokens=3)).retry_after is not None


async def test_a_refusal_has_the_states_of_the_limits_of_its_own_call(limiter: Limiter) -> None:
    team = Limit("team:t", "requests", 1, "h")
    first, second = (Limit(f"key:{name}", "tokens", 100, "h") for name in "ab")
    await admitted(limiter, team)
    for own in (first, second):
        assert [status.limit for status in (await refused(limiter, team, own)).statuses] == [team, own]
    assert [status.limit for status in (await refused(limiter, team)).statuses] == [team]


async def test_a_raised_limit_admits_calls_at_once(limiter: Limiter) -> None:
    await admitted(limiter, Limit("k", "requests", 1, "h"))
    assert (await refused(limiter, Limit("k", "requests", 1, "h"))).limit.amount == 1
    await admitted(limiter, Limit("k", "requests", 2, "h"))


async def test_a_wait_is_that_of_the_call_after_the_refusal_of_a_smaller_one(limiter: Limiter) -> None:
    budget, tokens = Limit("k", "spend", 100, "total"), Limit("k", "tokens", 100, "min")
    limiter.settle(await admitted(limiter, budget, tokens, spend=10, prompt_tokens=60), Costs(1, 60, 0, 10))
    assert (await refused(limiter, budget, tokens, spend=5, prompt_tokens=50)).limit is tokens
    large = await refused(limiter, budget, tokens, spend=95, prompt_tokens=50)
    assert (large.limit, large.retry_after) == (budget, math.inf)


async def test_each_kind_counts_its_own_amount(limiter: Limiter) -> None:
    kinds = [Limit("k", kind, 1000, "h") for kind in ("requests", "tokens", "prompt_tokens", "output_tokens")]
    spend = Limit("k", "spend", 5 * NANO_PER_USD, "day")
    found = await admitted(limiter, *kinds, spend, prompt_tokens=30, output_tokens=200, spend=NANO_PER_USD)
    assert [one.remaining for one in found.statuses] == [999, 770, 970, 800, 4 * NANO_PER_USD]


async def test_settling_replaces_the_reserved_by_the_used_amount(limiter: Limiter) -> None:
    tokens, spend = Limit("k", "tokens", 100, "min"), Limit("k", "spend", 100, "month")
    found = await admitted(limiter, tokens, spend, prompt_tokens=20, output_tokens=80, spend=90)
    assert (await refused(limiter, tokens, spend, prompt_tokens=1)).limit is tokens
    limiter.settle(found, Costs(prompt_tokens=20, output_tokens=10, spend=40))
    found = await admitted(limiter, tokens, spend, prompt_tokens=50, spend=10)
    assert [one.remaining for one in found.statuses] == [20, 50]
    limiter.settle(found, Costs(prompt_tokens=65, spend=60))
    assert [one.remaining for one in (await admitted(limiter, tokens, spend)).statuses] == [5, 0]


async def test_settling_twice_changes_nothing(limiter: Limiter) -> None:
    limit = Limit("k", "tokens", 100, "min")
    found = await admitted(limiter, limit, prompt_tokens=50)
    for _ in range(3):
        limiter.settle(found, Costs(prompt_tokens=20))
    assert (await admitted(limiter, limit)).statuses[0].remaining == 80


async def test_the_same_id_yields_one_reservation(limiter: Limiter) -> None:
    limit = Limit("k", "requests", 10, "min")
    answers = [await limiter.admit([limit], Costs(), "same") for _ in range(3)]
    assert [one.statuses[0].remaining for one in answers] == [9, 9, 9]
    assert (await admitted(limiter, limit)).statuses[0].remaining == 8


async def test_concurrency_counts_unsettled_calls(limiter: Limiter) -> None:
    limit = Limit("k", "concurrent", 2)
    first, second = await admitted(limiter, limit), await admitted(limiter, limit)
    assert (await refused(limiter, limit)).retry_after is not None
    limiter.settle(first, Costs())
    third = await admitted(limiter, limit)
    await refused(limiter, limit)
    for one in (second, third):
        limiter.settle(one, Costs())
    await admitted(limiter, limit)


async def test_no_retry_after_for_a_call_that_alone_exceeds_the_limit(limiter: Limiter) -> None:
    small, busy = Limit("k", "tokens", 10, "min"), Limit("k", "requests", 1, "h")
    assert (await refused(limiter, small, prompt_tokens=11)).retry_after is None
    await admitted(limiter, busy)
    found = await refused(limiter, busy, small, prompt_tokens=11)
    assert (found.limit, found.retry_after) == (small, None)


async def test_the_longest_wait_is_reported(limiter: Limiter) -> None:
    minute, day, calls = Limit("k", "requests", 1, "min"), Limit("k", "tokens", 1, "day"), Limit("k", "concurrent", 1)
    await admitted(limiter, minute, day, calls, prompt_tokens=1)
    found = await refused(limiter, minute, day, calls, prompt_tokens=1)
    assert found.limit is day


async def test_a_budget_ends_with_its_calendar_month(limiter: Limiter) -> None:
    limit = Limit("k", "spend", NANO_PER_USD, "month")
    found = await admitted(limiter, limit, spend=NANO_PER_USD)
    limiter.settle(found, Costs(spend=NANO_PER_USD))
    refusal = await refused(limiter, limit, spend=1)
    assert not refusal.busy
    end = month_start(month_number(refusal.decided_at) + 1)
    assert refusal.retry_after == pytest.approx((end - refusal.decided_at) / US_PER_S)
    assert list(found.slots) == [datetime.now(UTC).year * 12 + datetime.now(UTC).month - 1]


async def test_several_windows_of_one_kind_all_apply(limiter: Limiter) -> None:
    hour, day = Limit("k", "requests", 3, "h"), Limit("k", "requests", 5, "day")
    budgets = [Limit("k", "spend", amount, period) for amount, period in ((100, "day"), (90, "week"), (80, "month"), (70, "total"))]
    found = await admitted(limiter, hour, day, *budgets, spend=20)
    assert [one.remaining for one in found.statuses] == [2, 4, 80, 70, 60, 50]
    limiter.settle(found, Costs(spend=30))
    found = await admitted(limiter, hour, day, *budgets, spend=40)
    assert [one.remaining for one in found.statuses] == [1, 3, 30, 20, 10, 0]
    assert [usage.used for usage in await limiter.usage([hour, day, *budgets])] == [2, 2, 70, 70, 70, 70]
    limiter.settle(found, Costs(spend=40))
    refusal = await refused(limiter, *budgets, spend=1)
    assert (refusal.limit, refusal.retry_after) == (budgets[3], math.inf)
    assert (await refused(limiter, *budgets, spend=1)).retry_after == math.inf
    refusal = await refused(limiter, *budgets[:3], spend=21)
    assert refusal.limit is max(budgets[1:3], key=lambda budget: budget.slot_expiry(budget.slot_at(refusal.decided_at)))
    assert (await refused(limiter, budgets[0], spend=31)).limit is budgets[0]
    await admitted(limiter, hour)
    assert (await refused(limiter, hour, day)).limit is hour


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("period", ["day", "week", "month"])
async def test_a_budget_ends_with_its_period_in_its_time_zone(limiter: Limiter, period: str, zone: str) -> None:
    limit = Limit("k", "spend", 100, period, timezone=zone)
    found = await admitted(limiter, limit, spend=100)
    limiter.settle(found, Costs(spend=100))
    refusal = await refused(limiter, limit, spend=1)
    local = datetime.fromtimestamp(refusal.decided_at / US_PER_S, ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        end = local + timedelta(days=1)
    elif period == "week":
        end = local + timedelta(days=7 - local.weekday())
    else:
        end = (local.replace(day=1) + timedelta(days=32)).replace(day=1)
    assert refusal.retry_after == pytest.approx(end.timestamp() - refusal.decided_at / US_PER_S, abs=1e-3)
    (usage,) = await limiter.usage([limit])
    assert (usage.used, usage.reserved, usage.remaining) == (100, 0, 0)
    assert usage.reset_s == pytest.approx(refusal.retry_after, abs=60)


async def test_a_changed_time_zone_keeps_what_is_spent(limiter: Limiter) -> None:
    zones = ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "UTC"]
    for count, zone in enumerate(zones, 1):
        limit = Limit("k", "spend", 1000, "day", timezone=zone)
        found = await admitted(limiter, limit, spend=10)
        limiter.settle(found, Costs(spend=10))
        if zone == "Pacific/Kiritimati":  # ahead of UTC by 14 hours: its next day may have begun
            used = 1000 - found.statuses[0].remaining
            assert used in (10, 10 * count)
    (usage,) = await limiter.usage([Limit("k", "spend", 1000, "day")])
    assert usage.used in (30, 40)


async def test_limits_of_models_count_apart(limiter: Limiter) -> None:
    whole, some, other = (Limit("key:a", "requests", 3, "h", model=model) for model in ("", "gpt-5*", "gpt-4o"))
    colons = Limit("key:a:b", "requests", 3, "h", model="x"), Limit("key:a", "requests", 3, "h", model="b:x")
    for limit in (whole, some, other, *colons):
        assert (await admitted(limiter, limit)).statuses[0].remaining == 2


async def test_cached_tokens_are_returned_to_uncached_limits_only(limiter: Limiter) -> None:
    kinds = [Limit("k", kind, 1000, "h") for kind in ("tokens", "prompt_tokens", "uncached_prompt_tokens")]
    found = await admitted(limiter, *kinds, prompt_tokens=500, output_tokens=100)
    assert [one.remaining for one in found.statuses] == [400, 500, 500]
    limiter.settle(found, Costs(prompt_tokens=450, output_tokens=20, cached_tokens=400))
    assert [one.used for one in await limiter.usage(kinds)] == [470, 450, 50]


async def test_reading_usage_changes_nothing(limiter: Limiter) -> None:
    limits = [
        Limit("k", "requests", 10, "min"), Limit("k", "concurrent", 4), Limit("k", "spend", 100, "total"),
        Limit("unused", "tokens", 7, "day"), Limit("unused", "spend", 7, "week"), Limit("p", "requests", 5, "h", side="target"),
    ]  # fmt: skip
    found = await admitted(limiter, *limits[:3], spend=30)
    await admitted(limiter, limits[5])
    for _ in range(3):
        usages = await limiter.usage(limits)
        assert [(one.limit, one.used, one.reserved, one.remaining) for one in usages] == [
            (limits[0], 1, None, 9), (limits[1], 1, None, 3), (limits[2], 30, 30, 70), (limits[3], 0, None, 7), (limits[4], 0, 0, 7),
            (limits[5], 1, None, 4),
        ]  # fmt: skip
    assert [usages[at].reset_s for at in (1, 2, 3, 4)] == [0.0, math.inf, 0.0, 0.0]
    assert 0 < usages[0].reset_s <= 60.5
    limiter.settle(found, Costs(spend=20))
    again = await limiter.usage(limits)
    assert [(one.used, one.reserved) for one in again[:3]] == [(1, None), (0, None), (20, 0)]
    assert await limiter.usage([]) == []


async def test_a_budget_reserved_by_calls_in_flight_is_busy_not_spent(limiter: Limiter) -> None:
    limit = Limit("k", "spend", 100, "month")
    found = await admitted(limiter, limit, spend=60)
    refusal = await refused(limiter, limit, spend=50)
    assert refusal.busy
    assert refusal.retry_after == 1.0
    limiter.settle(found, Costs(spend=10))
    assert (await admitted(limiter, limit, spend=50)).statuses[0].remaining == 40


async def test_spend_is_exact_to_the_nano_dollar(limiter: Limiter) -> None:
    limit = Limit("k", "spend", 5_000_000 * NANO_PER_USD, "month")
    await admitted(limiter, limit, spend=4_999_999 * NANO_PER_USD + 123_456_789)
    assert (await admitted(limiter, limit, spend=1)).statuses[0].remaining == NANO_PER_USD - 123_456_790


async def test_a_call_is_admitted_after_its_retry_after(limiter: Limiter) -> None:
    limit = Limit("k", "requests", 3, "s")
    found: Reservation | Refusal = await admitted(limiter, limit)
    while isinstance(found, Reservation):  # a slow machine needs more than three calls for three in a second
        found = await ask(limiter, limit)
    assert found.retry_after is not None
    await asyncio.sleep(found.retry_after)
    await admitted(limiter, limit)


@pytest.mark.parametrize("servers", ["memory", "redis"], indirect=True)
async def test_no_window_exceeds_the_limit(limiter: Limiter) -> None:
    """The windows are judged by the store's decision times. Settlements return amounts meanwhile, so only used amounts count."""
    requests, tokens = Limit("k", "requests", 40, "s"), Limit("k", "tokens", 400, "s")
    charged: list[tuple[int, int]] = []
    draw = random.Random(7)

    async def caller() -> None:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            size = draw.randrange(1, 25)
            found = await ask(limiter, requests, tokens, prompt_tokens=size)
            if isinstance(found, Reservation):
                charged.append((found.decided_at, size))
                limiter.settle(found, Costs(prompt_tokens=size))
            await asyncio.sleep(draw.random() * 0.02)

    await asyncio.gather(*(caller() for _ in range(8)))
    assert len(charged) > 40
    charged.sort()
    for at, (end_at, _) in enumerate(charged):
        window = [size for when, size in charged[: at + 1] if when > end_at - US_PER_S]
        assert len(window) <= 40
        assert sum(window) <= 400


@pytest.mark.parametrize("servers", ["memory", "redis"], indirect=True)
async def test_most_of_a_limit_is_usable(limiter: Limiter) -> None:
    """A decision may count one slot more than a window has, so a small part of a limit is not usable."""
    limit, best = Limit("k", "requests", 51, "s"), 0
    for _ in range(5):
        count, first, last = 0, 0, 0
        while not first or last - first < 3 * US_PER_S:
            found = await ask(limiter, limit)
            if isinstance(found, Reservation):
                count, first, last = count + 1, first or found.decided_at, found.decided_at
            else:
                await asyncio.sleep(found.retry_after or 0)
                last = max(last, found.decided_at)
        best = max(best, count)
        if best >= 51 * 3 * 0.9:  # a busy machine needs several attempts
            return
    raise AssertionError(best)

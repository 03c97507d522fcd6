"""A refusal that is only due to calls in flight states this, with a short wait."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.limits.in_flight import BUSY_RETRY_S, InFlight
from gateway.store.limit import Costs, Limit, LimitStatus, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from gateway.store.script_args import reserved_key
from tests.support.each import each
from tests.support.redis_fixtures import LimiterStarter, start
from tests.support.redis_topologies import run_command

__all__ = ["start"]
LIMIT = Limit("key:k", "tokens", 1000, "min")


class Clock:
    """A store and its calls in flight, with a time that the test sets."""

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


REQUESTS, OUTPUT, CALLS = (Limit("key:k", kind, amount, window) for kind, amount, window in (
    ("requests", 2, "min"), ("output_tokens", 100, "h"), ("concurrent", 2, ""),
))  # fmt: skip


@each(
    ("limits", "refusing", "busy"),
    [
        ([LIMIT], LIMIT, True),
        ([LIMIT, OUTPUT], OUTPUT, True),
        ([LIMIT, CALLS], LIMIT, True),
        ([LIMIT, REQUESTS], REQUESTS, False),
        ([OUTPUT, LIMIT, REQUESTS], REQUESTS, False),
    ],
)
def test_a_refusal_states_a_short_wait_only_if_no_other_limit_is_used_up(limits: list[Limit], refusing: Limit, busy: bool) -> None:
    now = [10**12]
    store, in_flight, costs = MemoryLimiter(lambda: now[0]), InFlight(), Costs(1, 300, 80)
    for id in "ab":
        store.settle(store.decide([REQUESTS], Costs(), id), Costs())  # type: ignore[arg-type]
    now[0] += 5 * 10**6
    for id in "cd":
        held = store.decide([LIMIT, OUTPUT, CALLS], Costs(1, 400, 50), id)
        assert isinstance(held, Reservation)
        in_flight.add(held)
    refusal = store.decide(limits, costs, "refused")
    assert isinstance(refusal, Refusal)
    assert refusal.limit is not REQUESTS  # the reservations of tokens count for longer
    judged = in_flight.judge(refusal, costs)
    assert (judged.limit, judged.busy) == (refusing, busy)
    assert judged.retry_after == (BUSY_RETRY_S if busy else 55.5)


async def test_a_refusal_of_redis_is_judged_in_the_same_way(redis: RedisAddress, start: LimiterStarter) -> None:
    store, in_flight, costs = await start(redis), InFlight(), Costs(1, 300)
    held = await store.admit([LIMIT], Costs(1, 800), "a")
    assert isinstance(held, Reservation)
    in_flight.add(held)
    refusal = await store.admit([LIMIT], costs, "b")
    assert isinstance(refusal, Refusal)
    assert not refusal.busy
    assert in_flight.judge(refusal, costs).busy
    store.settle(await store.admit([REQUESTS], Costs(2), "c"), Costs(2))  # type: ignore[arg-type]
    refusal = await store.admit([LIMIT, REQUESTS], costs, "d")
    assert isinstance(refusal, Refusal)
    assert refusal.limit is LIMIT
    judged = in_flight.judge(refusal, costs)
    assert (judged.limit, judged.busy, (judged.retry_after or 0) > 50) == (REQUESTS, False, True)


async def test_calls_in_flight_of_another_process_count_as_reserved_until_they_end(redis: RedisAddress, start: LimiterStarter) -> None:
    one, other, costs = await start(redis), await start(redis), Costs(1, 300)
    held = await other.admit([LIMIT], Costs(1, 800), "a")
    assert isinstance(held, Reservation)
    refusal = await one.admit([LIMIT], costs, "b")
    assert isinstance(refusal, Refusal)
    assert [status.reserved for status in refusal.statuses] == [800]
    assert InFlight().judge(refusal, costs).busy
    other.settle(held, Costs(1, 800))
    await other.usage([LIMIT])  # sends the settlement
    third = await start(redis)  # the first process repeats its refusal for up to a second
    used_up = await third.admit([LIMIT], costs, "c")
    assert isinstance(used_up, Refusal)
    assert [status.reserved for status in used_up.statuses] == [0]
    assert not InFlight().judge(used_up, costs).busy


async def test_reservations_of_a_dead_process_do_not_count(redis: RedisAddress, start: LimiterStarter) -> None:
    store = await start(redis)
    decision = await store.admit([LIMIT], Costs(1, 800), "a")
    assert isinstance(decision, Reservation)
    await run_command(redis, "HINCRBY", reserved_key(LIMIT.key), f"{decision.slots[0]}:dead", 500)
    refusal = await store.admit([LIMIT], Costs(1, 300), "b")
    assert isinstance(refusal, Refusal)
    assert [status.reserved for status in refusal.statuses] == [800]


async def test_reserved_tokens_leave_no_trace_in_the_store(redis: RedisAddress, start: LimiterStarter) -> None:
    store = await start(redis)
    for id in ("a", "b"):
        decision = await store.admit([LIMIT], Costs(1, 10), id)
        assert isinstance(decision, Reservation)
        store.settle(decision, Costs(1, 10))
    await store.usage([LIMIT])
    assert await run_command(redis, "EXISTS", reserved_key(LIMIT.key)) == 0


def test_states_say_what_is_used_and_reserved_and_which_limit_refused(clock: Clock) -> None:
    clock.take(800, "a")
    decision = clock.store.decide([LIMIT, BUDGET], Costs(1, 300, 0, 60 * 10**9), "b")
    assert isinstance(decision, Refusal)
    tokens, spend = clock.in_flight.states(decision)
    reset = tokens.pop("reset_s")
    assert 0 < reset <= 61
    assert tokens == {"limit": "1,000 tokens per min", "owner": "key:k", "used": 800, "reserved": 800, "amount": 1000}
    assert {**spend, "reset_s": 0} == {
        "limit": "0.0000001 USD per day", "owner": "b", "used": 0.0, "reserved": 0.0, "amount": 1e-7, "reset_s": 0, "refused": True,
    }  # fmt: skip


def test_settled_reservations_are_forgotten(clock: Clock) -> None:
    clock.settle(clock.take(100, "a"), 100)
    assert clock.in_flight._open == {}


TOKENS, OTHER, BUDGET = Limit("b", "tokens", 100, "min"), Limit("b", "tokens", 500, "h"), Limit("b", "spend", 100, "day")
AT = 1_900_000_000 * 1_000_000


def held(*amounts: int, at: int = AT, limit: Limit = TOKENS) -> InFlight:
    """Return the calls in flight that reserve these amounts since a time."""
    found = InFlight()
    for index, amount in enumerate(amounts):
        found.add(Reservation(f"c{at}.{index}", [limit, BUDGET], Costs(prompt_tokens=amount, spend=amount), (), (), at))
    return found


def refused(limit: Limit = TOKENS, wait: float | None = 50.0, remaining: int = 10, **fields: Any) -> Refusal:
    """Return a refusal, with the state of another limit before that of the refusing one."""
    statuses = [LimitStatus(OTHER, 77, 1.0), LimitStatus(limit, remaining, 60.0)]
    return Refusal(limit, wait, statuses, AT, **fields)


@each(
    ("reserved", "cost", "busy"),
    [((40,), 50, True), ((40,), 51, False), ((20, 20), 50, True), ((), 11, False), ((39,), 50, False), ((0,), 10, True)],
)
def test_a_refusal_is_busy_if_the_call_would_fit_without_the_calls_in_flight(reserved: tuple[int, ...], cost: int, busy: bool) -> None:
    judged = held(*reserved).judge(refused(), Costs(prompt_tokens=cost))
    assert (judged.busy, judged.retry_after) == ((True, 1.0) if busy else (False, 50.0))


def test_a_limit_that_usage_exceeds_is_used_up_even_if_calls_in_flight_reserve_enough(clock: Clock) -> None:
    over, held = clock.take(100, "a"), clock.take(500, "b")
    clock.settle(over, 1500)
    refusal = clock.refused(300)
    assert (refusal.busy, (refusal.retry_after or 0) > BUSY_RETRY_S) == (False, True)
    clock.settle(held, 0)


def test_reservations_that_left_the_window_do_not_count() -> None:
    window = TOKENS.slot * TOKENS.slots
    for age, busy in ((0, True), (window, True), (window + 1, False)):
        assert held(40, at=AT - age).judge(refused(), Costs(prompt_tokens=50)).busy is busy


@each(
    "refusal",
    [refused(BUDGET), refused(BUDGET, remaining=60), refused(unavailable=True), refused(wait=None), refused(wait=1.0), refused(wait=0.5)],
)
def test_other_refusals_stay_as_they_are(refusal: Refusal) -> None:
    calls = held(40, limit=refusal.limit)
    assert calls.judge(refusal, Costs(prompt_tokens=50, spend=50)) is refusal


def test_a_limit_without_a_known_state_counts_as_used_up() -> None:
    assert not held(40).judge(Refusal(TOKENS, 50.0, (), AT), Costs(prompt_tokens=41)).busy
    assert held(41).judge(Refusal(TOKENS, 50.0, (), AT), Costs(prompt_tokens=41)).busy


@each(
    ("unspent", "waits", "expected"),
    [
        ((0, 0, 0), (50.0, 90.0, 70.0), (OTHER, 90.0)),
        ((0, 1, 0), (50.0, 90.0, 70.0), (BUDGET, 70.0)),
        ((1, 0, 0), (95.0, 90.0, 70.0), (OTHER, 90.0)),
        ((1, 1, -5), (95.0, 90.0, 70.0), (BUDGET, 70.0)),
        ((0, 0, 0), (None, 90.0, 70.0), (TOKENS, None)),
        ((1, 1, 1), (50.0, 90.0, 70.0), None),
        ((None, 1, 1), (50.0, 90.0, 70.0), (TOKENS, 50.0)),  # a limit whose state is unknown
    ],
)
def test_a_running_call_ends_at_the_used_up_limit_with_the_longest_wait(
    unspent: tuple[int | None, ...], waits: tuple[float | None, ...], expected: tuple[Limit, float | None] | None
) -> None:
    limits = TOKENS, OTHER, BUDGET
    statuses = [
        LimitStatus(limit, 0, 60.0, reserved=40 + left, excess=40) for limit, left in zip(limits, unspent, strict=True) if left is not None
    ]
    refusal = Refusal(TOKENS, 1.0, statuses, AT, busy=True, waits=list(zip(limits, waits, strict=True)))
    found = InFlight().used_up(refusal)
    assert (None if found is None else (found.limit, found.retry_after)) == expected
    assert found is None or not found.busy


def test_reservations_of_this_process_keep_a_running_call_whose_store_knows_none() -> None:
    refusal = refused(waits=[(TOKENS, 50.0)], remaining=0)
    assert held(1).used_up(refusal) is None
    assert held().used_up(refusal) is not None

"""Leases of amounts: when a process requests one, how much it has, what it admits, and what it reports at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest

from gateway.store import amount_leases
from gateway.store.amount_leases import HOT_CALLS, MAX_CALLS, MAX_LINES, MAX_TOGETHER, MIN_CALLS, AmountLeases, LeaseRequest
from gateway.store.limit import NO_COSTS, US_PER_S, Costs, Limit, LimitStatus, Refusal, Reservation
from gateway.store.limit_set import LimitSet, limit_set
from gateway.store.script_args import PendingDecision

REQUESTS, TOKENS = Limit("k", "requests", 100_000, "h"), Limit("k", "tokens", 1_000_000, "h")
BOTH = limit_set((REQUESTS, TOKENS))
COST = Costs(1, 6, 4)
SLOT_S = REQUESTS.slot / US_PER_S
LEASE_S = 20.0
START = 500_000 * REQUESTS.slot
"""The clock of the store at the beginning of a slot."""


class Fleet:
    """A store, and the leases of a process that uses it."""

    def __init__(self) -> None:
        self.instance = "me"
        self.decides = True
        self.members = 1
        self.remaining = {REQUESTS.key: 100_000, TOKENS.key: 1_000_000}
        self.now = 1000.0
        self.told: list[tuple[str, str, Costs]] = []
        """What the store has received: ids of reserved calls and of settled leases, with their amounts."""
        self.leases = AmountLeases(self, lambda limit: self.remaining.get(limit.key, 0), lambda: self.now)
        self.ids = (f"c{at}" for at in count())

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        self.told.append(("settled", reservation.id, actual))

    def reserve_open(self, calls: Sequence[Reservation]) -> None:
        self.told += (("reserved", call.id, call.costs) for call in calls)

    def heat(self, limits: LimitSet = BOTH, costs: Costs = COST, calls: int = HOT_CALLS + 1) -> list[PendingDecision]:
        """Let the store decide on calls that follow each other. Return the requests for leases."""
        for _ in range(calls):
            assert self.leases.admit(limits, costs, next(self.ids)) is None
            self.leases.watch(limits, costs)
            self.now += 0.001
        return self.flush([])

    def flush(self, decisions: list[PendingDecision]) -> list[PendingDecision]:
        """Send decisions. Return what is sent."""
        self.leases.add_asked({"caller": decisions})
        return decisions

    def grant(self, asked: PendingDecision, decided_at: int = START) -> None:
        """Grant a lease."""
        costs = {limit: getattr(asked.costs, limit.kind) for limit in asked.limits}
        statuses = [LimitStatus(limit, self.remaining[limit.key] - cost, 3600.0) for limit, cost in costs.items()]
        slots = [limit.slot_at(decided_at) for limit in asked.limits]
        asked.future.set_result(Reservation(asked.id, asked.limits, asked.costs, slots, statuses, decided_at, run=5))

    def call(self, limits: LimitSet = BOTH, costs: Costs = COST) -> Reservation | None:
        """Admit a call from a lease."""
        return self.leases.admit(limits, costs, next(self.ids))

    async def open(self, limits: LimitSet = BOTH, costs: Costs = COST) -> PendingDecision:
        """Return a granted lease."""
        (asked,) = self.heat(limits, costs)
        self.grant(asked)
        return asked


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Return a fleet whose leases last so long that only its own clock ends them."""
    monkeypatch.setattr(amount_leases, "MAX_LEASE_S", LEASE_S)
    return Fleet()


def admitted(call: Reservation | None) -> Reservation:
    """Return an admitted call."""
    assert call is not None
    return call


def test_a_lease_is_requested_once_when_calls_follow_each_other(fleet: Fleet) -> None:
    assert fleet.heat(calls=HOT_CALLS) == []
    (asked,) = fleet.heat(calls=1)
    assert isinstance(asked.future, LeaseRequest)
    assert not asked.future.done()
    assert (asked.limits, asked.id, asked.force) == (BOTH, "me:1", False)
    assert asked.costs == Costs(MIN_CALLS, 6 * MIN_CALLS, 4 * MIN_CALLS)
    assert fleet.heat(calls=20) == []


def test_a_lease_is_requested_after_the_calls_that_are_decided_with_it(fleet: Fleet) -> None:
    assert fleet.heat(calls=HOT_CALLS) == []
    calls = [PendingDecision(BOTH, COST, f"call{at}") for at in range(MAX_TOGETHER)]
    fleet.leases.watch(BOTH, COST)
    sent = fleet.flush([*calls])
    assert sent[:-1] == calls
    assert isinstance(sent[-1].future, LeaseRequest)


def test_if_many_calls_are_decided_together_no_lease_is_requested(fleet: Fleet) -> None:
    assert fleet.heat(calls=HOT_CALLS) == []
    calls = [PendingDecision(BOTH, COST, f"call{at}") for at in range(MAX_TOGETHER + 1)]
    fleet.leases.watch(BOTH, COST)
    assert fleet.flush([*calls]) == calls
    assert fleet.leases._lent == {}
    assert fleet.heat(calls=HOT_CALLS - 1) == []
    assert len(fleet.heat(calls=1)) == 1


def test_calls_with_pauses_get_no_lease(fleet: Fleet) -> None:
    for _ in range(30):
        fleet.now += 0.02
        assert fleet.heat(calls=1) == []


@pytest.mark.parametrize(
    "other",
    [
        Limit("k", "spend", 10**15, "day"), Limit("k", "concurrent", 10**6), Limit("k", "uncached_prompt_tokens", 10**9, "h"),
        Limit("k", "tokens", 10**9, "h", strict=True), Limit("k", "requests", 799, "h"),
    ],
    ids=["budget", "concurrent", "uncached", "strict", "small"],
)  # fmt: skip
def test_a_set_with_another_kind_of_limit_gets_no_lease(fleet: Fleet, other: Limit) -> None:
    fleet.remaining[other.key] = other.amount
    assert fleet.heat(limit_set((REQUESTS, other)), calls=50) == []


async def test_charges_of_running_calls_get_no_lease(fleet: Fleet) -> None:
    charge = Costs(0, 1, 1, 1)
    assert fleet.heat(costs=charge, calls=50) == []
    await fleet.open()
    assert fleet.call(costs=charge) is None
    assert fleet.call() is not None


@pytest.mark.parametrize(
    ("members", "remaining", "calls"), [(1, 100_000, 512), (2, 100_000, 500), (2, 4_000, 250), (2, 144, 9), (2, 127, 0)]
)
async def test_leases_of_all_processes_have_at_most_a_part_of_a_limit_and_of_its_rest(
    fleet: Fleet, members: int, remaining: int, calls: int
) -> None:
    fleet.members = members
    await fleet.open(limit_set((REQUESTS,)))
    line = fleet.leases._lines[limit_set((REQUESTS,))]
    assert line is not None
    for _ in range(8):
        while fleet.call(limit_set((REQUESTS,))):
            pass
        for asked in fleet.heat(limit_set((REQUESTS,)), calls=1):
            fleet.grant(asked)
    assert line.size == MAX_CALLS
    fleet.leases.end_all()
    fleet.remaining[REQUESTS.key] = remaining
    asked_now = fleet.heat(limit_set((REQUESTS,)), calls=1)
    assert [each.costs.requests for each in asked_now] == ([calls] if calls else [])


async def test_requests_and_leases_of_all_sets_of_limits_share_the_amounts(fleet: Fleet) -> None:
    narrow = Limit("m", "requests", 1_200, "h")
    fleet.remaining[narrow.key] = narrow.amount
    assert [each.costs.requests for each in fleet.heat(limit_set((narrow,)))] == [8]
    assert fleet.heat(limit_set((narrow, REQUESTS))) == []  # the first request leaves amounts for 4 calls


async def test_a_lease_admits_calls_until_its_amounts_are_used(fleet: Fleet) -> None:
    asked = await fleet.open()
    for at in range(MIN_CALLS):
        call = admitted(fleet.call())
        assert (call.costs, call.limits, call.degraded) == (COST, BOTH, False)
        assert [each.remaining for each in call.statuses] == [100_000 - 1 - at, 1_000_000 - 10 * (at + 1)]
        assert [each.limit for each in call.statuses] == [*BOTH]
    assert fleet.call() is None
    assert [each[:2] for each in fleet.told][-1] == ("settled", asked.id)
    (next_asked,) = fleet.heat(calls=1)
    assert next_asked.costs.requests == 2 * MIN_CALLS


async def test_a_call_that_needs_more_than_the_rest_of_the_lease_is_decided_by_the_store(fleet: Fleet) -> None:
    await fleet.open()
    assert fleet.call(costs=Costs(1, 10 * MIN_CALLS + 1)) is None
    assert fleet.told == [("settled", "me:1", NO_COSTS)]


async def test_the_time_of_a_call_and_its_resets_move_on_with_the_clock(fleet: Fleet) -> None:
    (asked,) = fleet.heat()
    asked_at = fleet.now - 0.001
    fleet.grant(asked)
    fleet.now = asked_at + 2.5
    call = admitted(fleet.call())
    assert abs(call.decided_at - START - 2_500_000) <= 1
    assert [each.reset_s for each in call.statuses] == [pytest.approx(3597.5)] * 2
    assert list(call.slots) == [limit.slot_at(START) for limit in BOTH]


@pytest.mark.parametrize(("into_slot_s", "lasts_s"), [(0.0, LEASE_S), (20.0, 9.0), (29.0, 0.9)])
async def test_a_lease_ends_before_the_slot_in_which_the_store_has_charged_it(fleet: Fleet, into_slot_s: float, lasts_s: float) -> None:
    (asked,) = fleet.heat()
    asked_at = fleet.now - 0.001
    fleet.now += 0.02  # the reply takes a while
    fleet.grant(asked, START + int(into_slot_s * US_PER_S))
    fleet.now = asked_at + lasts_s - 0.001
    last = admitted(fleet.call())
    assert REQUESTS.slot_at(last.decided_at) == REQUESTS.slot_at(START)
    fleet.now = asked_at + lasts_s
    assert fleet.call() is None
    assert fleet.told == [("reserved", last.id, COST), ("settled", "me:1", NO_COSTS)]


async def test_the_timer_ends_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amount_leases, "MAX_LEASE_S", 0.01)
    fleet = Fleet()
    await fleet.open()
    while not fleet.told:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert fleet.told == [("settled", "me:1", NO_COSTS)]
    assert fleet.leases._lent == {}


async def test_unused_amounts_of_ended_calls_are_available_to_the_next_calls(fleet: Fleet) -> None:
    await fleet.open()
    for _ in range(5 * MIN_CALLS):
        assert fleet.leases.settle(admitted(fleet.call()), NO_COSTS)
    for _ in range(MIN_CALLS):
        fleet.leases.settle(admitted(fleet.call()), COST)
    assert fleet.call() is None
    assert fleet.told == [("settled", "me:1", Costs(MIN_CALLS, 6 * MIN_CALLS, 4 * MIN_CALLS))]


async def test_at_the_end_calls_in_flight_are_reserved_before_the_lease_is_settled(fleet: Fleet) -> None:
    asked = await fleet.open()
    first, second = admitted(fleet.call()), admitted(fleet.call())
    assert fleet.leases.settle(first, Costs(1, 5, 2))
    fleet.leases.end_all()
    assert fleet.told == [("reserved", second.id, COST), ("settled", asked.id, Costs(1, 5, 2))]
    assert not fleet.leases.settle(second, Costs(1, 5, 2))  # it is a reservation of its own now
    assert fleet.leases._calls == {}


async def test_a_call_is_settled_once(fleet: Fleet) -> None:
    await fleet.open()
    call = admitted(fleet.call())
    assert fleet.leases.settle(call, Costs(1, 5, 2))
    assert not fleet.leases.settle(call, Costs(1, 5, 2))
    fleet.leases.end_all()
    assert fleet.told == [("settled", "me:1", Costs(1, 5, 2))]


async def test_a_repeated_id_gets_the_same_reservation(fleet: Fleet) -> None:
    await fleet.open()
    call = fleet.leases.admit(BOTH, COST, "again")
    assert fleet.leases.admit(BOTH, COST, "again") is call
    for _ in range(MIN_CALLS - 1):
        admitted(fleet.call())
    assert fleet.call() is None


async def test_usage_beyond_the_amounts_of_a_lease_is_reported_at_once(fleet: Fleet) -> None:
    await fleet.open()
    call = admitted(fleet.call())
    fleet.leases.settle(call, Costs(1, 6, 10 * MIN_CALLS - 6))
    assert fleet.told == []  # the amounts of the lease cover it
    call = admitted(fleet.call(costs=Costs()))
    fleet.leases.settle(call, Costs(1, 1, 0))
    assert fleet.told == [("settled", "me:1", Costs(2, 7, 10 * MIN_CALLS - 6))]


async def test_a_rest_below_zero_does_not_make_a_lease_larger(fleet: Fleet) -> None:
    tokens = limit_set((TOKENS,))
    await fleet.open(tokens)
    call = admitted(fleet.call(tokens))
    fleet.leases.settle(call, Costs(1, -500, 0))  # more than this was charged while the call was running
    for _ in range(MIN_CALLS - 1):
        admitted(fleet.call(tokens))
    assert fleet.call(tokens, Costs(1, 11)) is None
    assert fleet.told[-1] == ("settled", "me:1", Costs(1, -500))


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "unanswered"])
def test_a_lease_that_is_not_granted_is_forgotten(fleet: Fleet, refused: bool) -> None:
    (asked,) = fleet.heat()
    asked.future.set_result(Refusal(REQUESTS, 30.0) if refused else None)
    assert fleet.call() is None
    assert fleet.leases._lent == {}
    assert fleet.heat(calls=HOT_CALLS - 1) == []
    assert len(fleet.heat(calls=1)) == 1


async def test_a_lease_of_scarce_amounts_is_returned_at_once(fleet: Fleet) -> None:
    (asked,) = fleet.heat()
    fleet.remaining[REQUESTS.key] = 8 * MIN_CALLS - 1  # other processes have used the rest meanwhile
    fleet.grant(asked)
    assert fleet.call() is None
    assert fleet.told == [("settled", asked.id, NO_COSTS)]
    assert fleet.leases.granted == 0


async def test_during_an_outage_a_lease_is_kept_until_the_store_decides(fleet: Fleet) -> None:
    asked = await fleet.open()
    ended, open_call = admitted(fleet.call()), admitted(fleet.call())
    fleet.decides = False
    fleet.leases.end_all()
    assert fleet.leases.settle(ended, COST)
    assert fleet.call() is None
    assert fleet.told == []
    fleet.decides = True
    fleet.leases.settle_closed()
    assert fleet.told == [("reserved", open_call.id, COST), ("settled", asked.id, COST)]
    fleet.leases.settle_closed()
    assert len(fleet.told) == 2


async def test_a_lease_that_is_granted_during_an_outage_admits_nothing(fleet: Fleet) -> None:
    (asked,) = fleet.heat()
    fleet.decides = False
    fleet.grant(asked)
    assert fleet.told == []
    fleet.decides = True
    fleet.leases.settle_closed()
    assert fleet.call() is None
    assert fleet.told == [("settled", asked.id, NO_COSTS)]


async def test_only_leases_under_the_named_limits_end(fleet: Fleet) -> None:
    other = Limit("other", "requests", 100_000, "h")
    fleet.remaining[other.key] = other.amount
    first, second = await fleet.open(), await fleet.open(limit_set((other,)))
    fleet.leases.end_under([Limit("third", "requests", 5, "h")])
    assert fleet.told == []
    fleet.leases.end_under([Limit("other", "requests", 5, "h")])  # of another generation
    assert [each[1] for each in fleet.told] == [second.id]
    fleet.leases.end_under([TOKENS])
    assert [each[1] for each in fleet.told] == [second.id, first.id]


async def test_a_new_generation_of_the_same_limit_shares_the_amounts_but_not_the_lease(fleet: Fleet) -> None:
    old, new = Limit("g", "requests", 1_600, "h"), Limit("g", "requests", 1_600, "h")
    fleet.remaining[old.key] = old.amount
    await fleet.open(limit_set((old,)))
    (asked,) = fleet.heat(limit_set((new,)))
    assert asked.costs.requests == 8
    fleet.grant(asked)
    assert fleet.leases._lent == {old.key: 16}
    fleet.leases.end_all()
    assert fleet.leases._lent == {}


async def test_a_lease_that_served_few_calls_is_not_followed_by_another(fleet: Fleet) -> None:
    await fleet.open()
    admitted(fleet.call())
    fleet.now += LEASE_S
    assert fleet.call() is None
    assert fleet.heat(calls=HOT_CALLS - 1) == []


async def test_many_sets_of_limits_are_not_kept(fleet: Fleet) -> None:
    await fleet.open()
    for at in range(3 * MAX_LINES):
        fleet.leases.watch(limit_set((Limit(f"user:{at}", "requests", 100_000, "h"),)), COST)
        assert len(fleet.leases._lines) <= MAX_LINES + 1
    assert fleet.call() is not None

"""The scripts of membership at exact times: members, missing members, and the shares that are held back for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.store import script_args
from gateway.store.limit import US_PER_S, Costs, Limit
from gateway.store.member_scripts import HEARTBEAT, LEAVE, MISSED_AFTER_S, OVERDUE_AFTER_S
from gateway.store.script_args import PendingDecision, member_info_key, members_key
from gateway.store.scripts import ADMIT
from gateway.store.settled_spend import SettledSpend
from tests.store.frozen_scripts import NO_RUN, run_at

START = 1_900_000_000 * US_PER_S
OVERDUE, MISSED = round(OVERDUE_AFTER_S * US_PER_S), round(MISSED_AFTER_S * US_PER_S)
HOLD = 120 * US_PER_S
LEASE = 30 * US_PER_S
KEYS = [members_key("caller"), member_info_key("caller")]
SET = Limit("k", "concurrent", 8).key


class Fleet:
    """The members in a real Redis."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def beat(
        self, instance: str, now: int, *, seat: str = "", hold: int = HOLD, due: int = 0, waited: int = 0, divisor: int = 1
    ) -> list[int]:
        """Send a heartbeat without leases."""
        reply: list[int] = run_at(self.client, HEARTBEAT, KEYS, [instance, seat, hold, LEASE, due, waited, divisor], now)
        return reply

    def leave(self, instance: str, now: int, seat: str = "") -> None:
        """Remove an instance."""
        assert run_at(self.client, LEAVE, KEYS, [instance, seat], now) == 1

    def due(self) -> dict[str, int]:
        """Return the time at which the next heartbeat of each member is due."""
        return {name.decode(): int(score) for name, score in self.client.zrange(KEYS[0], 0, -1, withscores=True)}

    def told(self) -> dict[str, str]:
        """Return the stored data of each member: its divisor, hold-back time and seat."""
        return {name.decode(): value.decode() for name, value in self.client.hgetall(KEYS[1]).items()}

    def admit(self, limit: Limit, cost: Costs, now: int, lease: int = LEASE) -> list[int]:
        """Decide on a call of the instance `me`. Return the status, the remaining amount and the wait in microseconds."""
        asked = PendingDecision([limit], cost, f"call at {now}", object())
        keys, arguments = script_args.admit_args([asked], SettledSpend("me"), lease, NO_RUN)
        status, _, left, _, wait, *_ = run_at(self.client, ADMIT, keys, arguments, now)[0]
        return [status, left, wait]


@pytest.fixture
def fleet(client: Any) -> Fleet:
    """An empty fleet."""
    return Fleet(client)


async def test_a_member_is_counted_with_its_divisor_hold_back_time_and_seat(fleet: Fleet) -> None:
    assert fleet.beat("one", START) == [1, START + OVERDUE, 0, 0]
    assert fleet.beat("two", START + 1, seat="host 2") == [2, START + 1 + OVERDUE, 0, 0]
    assert fleet.told() == {"one": f"1 {HOLD} ", "two": f"2 {HOLD} host 2"}
    assert fleet.beat("one", START + 2, due=START + OVERDUE, divisor=7) == [2, START + 2 + OVERDUE, 0, 0]
    assert fleet.told()["one"] == f"7 {HOLD} "
    assert fleet.due() == {"one": START + 2 + OVERDUE, "two": START + 1 + OVERDUE}
    kept = (2 * HOLD + 10 * OVERDUE) // 1000
    assert all(kept - 60_000 < fleet.client.pttl(key) <= kept for key in KEYS)


async def test_a_lost_heartbeat_is_noticed_unless_it_was_the_first(fleet: Fleet) -> None:
    _, due, *_ = fleet.beat("one", START)
    fleet.client.flushall()
    assert fleet.beat("one", START + 1, due=due)[2] == 1
    fleet.client.flushall()
    assert fleet.beat("one", START + 2)[2] == 0


@pytest.mark.parametrize(("late", "is_recorded"), [(0, True), (1, False)])
async def test_a_heartbeat_held_up_for_over_a_second_is_not_recorded(fleet: Fleet, late: int, is_recorded: bool) -> None:
    _, due, *_ = fleet.beat("one", START)
    now = START + 500_000 + US_PER_S + late
    assert fleet.beat("one", now, due=due, waited=500_000) == [1, now + OVERDUE, 0, 0]
    assert fleet.due() == {"one": now + OVERDUE if is_recorded else due}
    fleet.client.flushall()
    assert fleet.beat("one", now, due=due, waited=500_000) == [1, now + OVERDUE, int(is_recorded), 0]


async def test_a_member_is_missing_once_its_heartbeat_is_overdue(fleet: Fleet) -> None:
    fleet.beat("dead", START)
    assert fleet.beat("one", START + OVERDUE)[3] == 0
    assert fleet.beat("one", START + OVERDUE + 1)[3] == 1
    assert fleet.beat("one", START + OVERDUE + 1)[0] == 2


async def test_a_missing_member_is_forgotten_after_its_own_hold_back_time(fleet: Fleet) -> None:
    fleet.beat("dead", START, hold=10 * US_PER_S)
    fleet.beat("later", START, hold=11 * US_PER_S)
    assert fleet.beat("one", START + 10 * US_PER_S)[0] == 3
    assert fleet.beat("one", START + 10 * US_PER_S + 1)[0] == 2
    assert set(fleet.told()) == set(fleet.due()) == {"later", "one"}


async def test_a_member_without_data_is_forgotten_after_the_hold_back_time(fleet: Fleet) -> None:
    fleet.client.zadd(KEYS[0], {"older": START - HOLD, "newer": START - HOLD + 1})
    assert fleet.beat("one", START)[0] == 2
    assert set(fleet.due()) == {"newer", "one"}


async def test_an_overdue_member_with_unreadable_data_is_forgotten(fleet: Fleet) -> None:
    for name, due in (("late", START - 1), ("in time", START)):
        fleet.client.zadd(KEYS[0], {name: due})
        fleet.client.hset(KEYS[1], name, "x")
    fleet.beat("one", START)
    assert set(fleet.told()) == set(fleet.due()) == {"in time", "one"}


@pytest.mark.parametrize(
    ("seat", "after", "is_replaced"),
    [("host", MISSED + 1, True), ("host", MISSED, False), ("other", MISSED + 1, False), ("", MISSED + 1, False)],
)
async def test_a_new_member_takes_over_its_seat_after_a_missed_heartbeat(fleet: Fleet, seat: str, after: int, is_replaced: bool) -> None:
    fleet.beat("dead", START, seat="host" if seat else "")
    assert fleet.beat("new", START + after, seat=seat)[0] == (1 if is_replaced else 2)
    assert set(fleet.told()) == set(fleet.due()) == ({"new"} if is_replaced else {"dead", "new"})


@pytest.mark.parametrize(
    ("seat", "after", "is_removed"),
    [("host", MISSED + 1, True), ("host", MISSED, False), ("other", MISSED + 1, False), ("", MISSED + 1, False)],
)
async def test_a_leaving_member_takes_a_dead_one_of_its_seat_along(fleet: Fleet, seat: str, after: int, is_removed: bool) -> None:
    fleet.beat("dead", START, seat="host" if seat else "")
    fleet.beat("leaving", START, seat="elsewhere")
    fleet.beat("staying", START, seat="third")
    fleet.leave("leaving", START + after, seat)
    assert set(fleet.told()) == set(fleet.due()) == {"staying"} | (set() if is_removed else {"dead"})


async def test_a_heartbeat_renews_the_leases_that_exist(fleet: Fleet) -> None:
    fleet.client.zadd(SET, {"me a": START + LEASE, "other a": START + LEASE})
    arguments = ["me", "", HOLD, LEASE, 0, 0, 1, "a", "gone"]
    run_at(fleet.client, HEARTBEAT, [*KEYS, SET, SET], arguments, START + 5)
    assert dict(fleet.client.zrange(SET, 0, -1, withscores=True)) == {b"me a": START + LEASE + 5, b"other a": START + LEASE}
    assert 2 * LEASE // 1000 - 30_000 < fleet.client.pttl(SET) <= 2 * LEASE // 1000


def _times(hold: int) -> Sequence[int]:
    return (START + OVERDUE, START + OVERDUE + 1, START + hold - 1, START + hold)


async def test_the_share_of_a_missing_member_is_held_back_from_its_due_time_to_the_end_of_its_hold_back_time(fleet: Fleet) -> None:
    limit, hold = Limit("k", "requests", 13, "day"), 10 * US_PER_S
    for name in ("dead", "me"):
        fleet.beat(name, START, hold=hold, due=START + OVERDUE, divisor=3)
    fleet.client.zadd(KEYS[0], {"me": START})  # an instance holds nothing back for itself
    left = [fleet.admit(limit, Costs(requests=0), now)[1] for now in _times(hold)]
    assert left == [13, 9, 9, 13]


async def test_half_of_a_limit_is_held_back_for_a_member_that_was_alone_and_shares_add_up(fleet: Fleet) -> None:
    limit, now = Limit("k", "requests", 100, "day"), START + OVERDUE + 1
    fleet.beat("alone", START)
    assert fleet.admit(limit, Costs(requests=0), now)[1] == 50
    fleet.beat("one of four", START, due=START + OVERDUE, divisor=4, hold=2 * HOLD)
    assert fleet.admit(limit, Costs(requests=0), now + 1)[1] == 25
    assert fleet.admit(limit, Costs(requests=26), now + 2) == [0, 25, START + 2 * HOLD - now - 2]


async def test_calls_of_a_missing_member_count_once(fleet: Fleet) -> None:
    limit, now = Limit("k", "concurrent", 8), START + OVERDUE + 1
    fleet.beat("dead", START)
    fleet.client.zadd(limit.key, {f"dead {number}": START + LEASE for number in range(3)})
    fleet.client.zadd(limit.key, {"other 1": START + LEASE, "dead ended": now - 1})
    assert fleet.admit(limit, Costs(), now) == [1, 8 - 3 - 1 - 1 - 1, -4]
    fleet.client.zadd(limit.key, {f"dead {number}": START + LEASE for number in range(6)})
    assert fleet.admit(limit, Costs(), now + 1) == [0, 0, -3]


async def test_calls_are_held_back_for_a_lease_at_most(fleet: Fleet) -> None:
    limit, lease = Limit("k", "concurrent", 8), 10 * US_PER_S
    fleet.beat("dead", START)
    left = []
    for now in (START + OVERDUE, START + OVERDUE + 1, START + lease - OVERDUE - 1, START + lease - OVERDUE):
        left.append(fleet.admit(limit, Costs(), now, lease)[1])
        fleet.client.delete(limit.key)
    assert left == [7, 3, 3, 7]

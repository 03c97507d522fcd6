"""The effects of the scripts of limits in Redis, and their replies, at exact times: repeats, reserved amounts, waits and times to live."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from redis import ResponseError

from gateway.store import script_args
from gateway.store.limit import US_PER_S, Costs, Limit, Reservation
from gateway.store.limit_usage import _read_reply, _usage_args
from gateway.store.member_scripts import HEARTBEAT
from gateway.store.periods import DAY_US
from gateway.store.replay_scripts import CHECK_RUN, REPLAY_USAGE
from gateway.store.script_args import PendingDecision, Run, member_info_key, members_key, reserved_key, run_key
from gateway.store.scripts import ADMIT, BOOK_USAGE, PUBLISH, SETTLE
from gateway.store.settled_spend import SettledSpend, SpendEntry
from gateway.store.usage_script import READ_USAGE
from tests.store.frozen_scripts import CLOCK, NO_RUN, run_at

START = 1_900_000_000 * US_PER_S
LEASE = 30 * US_PER_S
BUDGET = Limit("k", "spend", 100, "month")
TOKENS = Limit("k", "tokens", 100, "min")
CALLS = Limit("k", "concurrent", 8)
TOTAL = Limit("k", "spend", 100, "total")


class Process:
    """One process that shares the store."""

    def __init__(self, client: Any, name: str = "me") -> None:
        self.client = client
        self.spent = SettledSpend(name)

    def join(self, now: int = START, hold: int = 0) -> None:
        """Send a heartbeat."""
        keys = [members_key("caller"), member_info_key("caller")]
        run_at(self.client, HEARTBEAT, keys, [self.spent.incarnation, "", hold, LEASE, 0, 0, 1], now)

    def admit(self, limits: Sequence[Limit], costs: Costs, id: str, now: int = START) -> list[int]:
        """Decide on a call. Return the reply: the status, the time, and remaining amount, slot and wait of each limit."""
        asked = PendingDecision(limits, costs, id, object())
        reply: list[int] = run_at(self.client, ADMIT, *script_args.admit_args([asked], self.spent, LEASE, NO_RUN), now)[0]
        return reply

    def settle(self, limits: Sequence[Limit], costs: Costs, slots: Sequence[int], id: str, actual: Costs, now: int = START) -> None:
        """Settle a call."""
        held = Reservation(id, limits, costs, slots, (), now)
        assert run_at(self.client, SETTLE, *script_args.settle_args([(held, actual)], self.spent, NO_RUN), now) == 1

    def publish(self, limit: Limit, amount: int, reserved: int = -1) -> None:
        """Publish the amounts that this process settled and reserves in the current period of a budget."""
        entry = SpendEntry(self.spent.incarnation, limit.key, limit.slot_at(START), amount)
        run_at(self.client, PUBLISH, *script_args.publish_args([(entry, reserved)]), START)

    def usage(self, limit: Limit, now: int = START) -> tuple[int, int | None]:
        """Return the used and the reserved amount."""
        (usage,) = _read_reply([limit], run_at(self.client, READ_USAGE, *_usage_args([limit], self.spent), now))
        return usage.used, usage.reserved

    def lives_ms(self, key: str) -> int:
        """Return the time for which a key is kept, in milliseconds."""
        return int(self.client.pttl(key))


@pytest.fixture
def me(client: Any) -> Process:
    """A process with an empty store."""
    return Process(client)


async def test_a_repeated_admission_gets_the_first_reply_and_charges_nothing(me: Process) -> None:
    limits = [TOKENS, BUDGET, CALLS]
    first = me.admit(limits, Costs(prompt_tokens=30, spend=20), "a")
    assert first[:1] + first[2::3] == [1, 70, 80, 7]
    me.admit(limits, Costs(prompt_tokens=5, spend=5), "b", START + US_PER_S)
    assert me.admit(limits, Costs(prompt_tokens=30, spend=20), "a", START + US_PER_S) == [first[0], START + US_PER_S, *first[2:]]
    assert [me.usage(limit, START + US_PER_S)[0] for limit in limits] == [35, 25, 2]


async def test_only_amounts_of_live_members_in_this_period_are_reserved(me: Process) -> None:
    others = [Process(me.client, name) for name in ("one", "two", "dead")]
    for other, at in zip(others, (START, START, START - 60 * US_PER_S), strict=True):
        other.join(at, hold=10**12)
    me.join()
    for other, cost in zip([*others, me], (5, 7, 11, 13), strict=True):
        other.admit([BUDGET], Costs(spend=cost), other.spent.incarnation)
    assert me.usage(BUDGET) == (5 + 7 + 13, 5 + 7 + 13)
    fields = {field.decode().partition(":")[0] for field in me.client.hkeys(reserved_key(BUDGET.key))}
    assert fields == {"one", "two", "me"}
    assert others[0].admit([BUDGET], Costs(spend=76), "refused")[2] == 100 - 5 - 7 - 13
    assert me.usage(BUDGET, START + 32 * DAY_US) == (0, 0)


async def test_tokens_of_calls_in_flight_are_reserved_until_they_end(me: Process) -> None:
    other = Process(me.client, "other")
    other.join()
    slot = me.admit([TOKENS], Costs(prompt_tokens=30), "a")[3]
    other.admit([TOKENS], Costs(prompt_tokens=20), "b")
    assert me.admit([TOKENS], Costs(prompt_tokens=60), "c")[-1] == 50
    me.settle([TOKENS], Costs(prompt_tokens=30), [slot], "a", Costs(prompt_tokens=10))
    refused = me.admit([TOKENS], Costs(prompt_tokens=80), "d")
    assert (refused[2], refused[-1]) == (70, 20)


async def test_the_own_settled_amount_counts_even_before_its_publication(me: Process) -> None:
    me.publish(BUDGET, 30)
    me.spent.add(BUDGET.key, BUDGET.slot_at(START), 50)
    assert me.usage(BUDGET) == (50, 0)
    assert me.admit([BUDGET], Costs(spend=10), "a")[2] == 100 - 50 - 10
    assert me.usage(BUDGET) == (60, 10)
    me.publish(BUDGET, 55)  # larger than the amount that the process itself has recorded
    assert me.usage(BUDGET) == (65, 10)


@pytest.mark.parametrize("limit", [BUDGET, Limit("k", "spend", 100, "day"), TOKENS])
async def test_a_call_that_exceeds_the_whole_limit_never_fits(me: Process, limit: Limit) -> None:
    assert me.admit([limit], Costs(spend=100, prompt_tokens=100), "fits")[0] == 1
    assert me.admit([limit], Costs(spend=101, prompt_tokens=101), "never", START + 1)[4] == -2


async def test_a_budget_that_is_only_reserved_is_free_once_a_call_ends(me: Process) -> None:
    slot = me.admit([BUDGET], Costs(spend=60), "a")[3]
    assert me.admit([BUDGET], Costs(spend=41), "b")[4] == -3
    me.spent.add(BUDGET.key, slot, 59)
    me.settle([BUDGET], Costs(spend=60), [slot], "a", Costs(spend=59))
    assert me.admit([BUDGET], Costs(spend=42), "c")[4] == -1
    assert me.admit([BUDGET], Costs(spend=41), "d")[0] == 1


@pytest.mark.parametrize("hold_s", [10, 60, 600])
async def test_a_wait_ends_when_slots_or_the_held_back_share_are_free(me: Process, hold_s: int) -> None:
    """Two slots hold 40 each and half of the limit is held back: the first slot and the share, or both slots, make room for 30."""
    now, joined = START + 10 * US_PER_S, START + 8 * US_PER_S
    second = now - TOKENS.slot
    Process(me.client, "dead").join(joined, hold=hold_s * US_PER_S)
    for at in (START, second):
        assert me.admit([TOKENS], Costs(prompt_tokens=40), f"at {at}", at)[0] == 1
    free = [(TOKENS.slot_at(at) + TOKENS.slots + 1) * TOKENS.slot - now for at in (START, second)]
    expected = min(free[1], max(free[0], joined + hold_s * US_PER_S - now))
    assert me.admit([TOKENS], Costs(prompt_tokens=30), "refused", now)[4] == expected


async def test_expired_slots_are_deleted(me: Process) -> None:
    first = me.admit([TOKENS], Costs(prompt_tokens=10), "a")[3]
    me.admit([TOKENS], Costs(prompt_tokens=1), "b", START + TOKENS.slot)
    last = me.admit([TOKENS], Costs(prompt_tokens=2), "c", (first + TOKENS.slots + 1) * TOKENS.slot)[3]
    slots = {int(field): int(value) for field, value in me.client.hgetall(TOKENS.key).items() if field.isdigit()}
    assert slots == {first + 1: 1, last: 2}
    assert me.usage(TOKENS, last * TOKENS.slot)[0] == 3


@pytest.mark.parametrize("key", [TOKENS.key, BUDGET.key, reserved_key(BUDGET.key), CALLS.key])
async def test_a_decision_deletes_a_value_of_another_type_and_charges_nothing(me: Process, key: str) -> None:
    limits, costs = [TOKENS, BUDGET, CALLS], Costs(prompt_tokens=30, spend=20)
    me.client.set(key, "x")
    assert me.admit(limits, costs, "a") == [-1, START]
    assert [me.usage(limit)[0] for limit in limits] == [0, 0, 0]
    assert me.admit(limits, costs, "a")[0] == 1


async def test_a_clock_that_goes_back_adds_to_the_latest_slot(me: Process) -> None:
    ahead = START + 3 * TOKENS.slot
    latest = me.admit([TOKENS], Costs(prompt_tokens=10), "a", ahead)[3]
    assert me.admit([TOKENS], Costs(prompt_tokens=5), "b", START)[3] == latest
    assert me.client.hget(TOKENS.key, latest) == b"15"
    assert me.usage(TOKENS, ahead)[0] == 15
    assert me.usage(TOKENS, ahead + (TOKENS.slots + 1) * TOKENS.slot)[0] == 0


async def test_each_key_is_kept_as_long_as_it_counts(me: Process) -> None:
    limits = [TOKENS, BUDGET, CALLS, TOTAL]
    me.admit(limits, Costs(prompt_tokens=30, spend=20), "a")
    kept = {
        TOKENS.key: TOKENS.ttl, reserved_key(TOKENS.key): TOKENS.ttl, BUDGET.key: BUDGET.ttl, reserved_key(BUDGET.key): BUDGET.ttl,
        CALLS.key: 2 * LEASE // 1000, script_args.reservation_key(TOKENS, "a"): 90_000_000,
    }  # fmt: skip
    for key, at_most in kept.items():
        assert at_most - 30_000 < me.lives_ms(key) <= at_most, key
    assert me.lives_ms(TOTAL.key) == -1
    late = Reservation("late", [CALLS], Costs(), (), (), 0)
    run_at(me.client, SETTLE, *script_args.settle_args([(late, Costs())], me.spent, NO_RUN), START)
    assert 90_000 < me.lives_ms(script_args.reservation_key(CALLS, "late")) <= 120_000


@pytest.mark.parametrize("amount", [0, 3])
async def test_a_published_reserved_amount_replaces_the_earlier_one(me: Process, amount: int) -> None:
    me.publish(BUDGET, 0, 20)
    me.publish(BUDGET, 5)
    assert me.usage(BUDGET) == (25, 20)
    me.publish(BUDGET, 5, amount)
    assert me.usage(BUDGET) == (5 + amount, amount)
    assert me.client.exists(reserved_key(BUDGET.key)) == (amount > 0)


@pytest.mark.parametrize("rubbish", [("set", "x"), ("hset", "p", "many"), ("rpush", "x")])
async def test_a_published_amount_replaces_a_value_that_is_no_budget(me: Process, rubbish: tuple[str, ...]) -> None:
    command, *arguments = rubbish
    getattr(me.client, command)(BUDGET.key, *arguments)
    me.publish(BUDGET, 5)
    assert me.usage(BUDGET) == (5, 0)
    assert me.client.hget(BUDGET.key, "t") == b"5"


async def test_a_replay_puts_each_amount_into_its_slot(me: Process) -> None:
    last, ttl = TOKENS.slot_at(START), TOKENS.ttl
    pairs = [(0, 1), (0, 2), (3, 4), (TOKENS.slots, 8)]
    arguments = [TOKENS.slot, TOKENS.slots, ttl, len(pairs), *(part for pair in pairs for part in pair)]
    other = Limit("other", "requests", 100, "min")
    keys = [NO_RUN.key, "lockgate:{caller}:done 1", TOKENS.key, "lockgate:{caller}:done 2", other.key]
    me.client.set(TOKENS.key, "x")
    for _ in range(2):
        assert run_at(me.client, REPLAY_USAGE, keys, [0, 0, *arguments, other.slot, other.slots, other.ttl, 1, 2, 16], START) == 1
    stored = {field.decode(): int(value) for field, value in me.client.hgetall(TOKENS.key).items()}
    oldest = last - TOKENS.slots
    assert stored == {"h": last, "c": last, "s": 15, "l": oldest, str(last): 3, str(last - 3): 4, str(oldest): 8}
    assert me.client.hget(other.key, "c") == b"%d" % (other.slot_at(START) - 2)
    assert me.client.hgetall(other.key)[b"s"] == b"16"
    assert ttl - 30_000 < me.lives_ms(TOKENS.key) <= ttl
    assert 80_000_000 < me.lives_ms(keys[1]) <= 90_000_000


@pytest.mark.parametrize(
    ("stored", "reported", "kept"),
    [
        ("1,9,10", "2,8,10", "2,9,10"),
        ("9,9", "10,10", "10,10"),
        ("10,10", "9,9", "10,10"),
        ("5", "4,3", "5,3"),
        ("5,3,2", "6", "6,3,2"),
        ("5,3", "5,3", "5,3"),
    ],
)
async def test_the_ledger_keeps_the_larger_of_each_count(client: Any, stored: str, reported: str, kept: str) -> None:
    for value in (stored, reported):
        assert client.eval(BOOK_USAGE, 1, "day", 60_000, "row", value, "other", "7") == 1
    assert client.hgetall("day") == {b"row": kept.encode(), b"other": b"7"}
    assert 0 < client.pttl("day") <= 60_000


async def test_the_ledger_replaces_a_value_of_another_type(client: Any) -> None:
    client.set("day", "x")
    assert client.eval(BOOK_USAGE, 1, "day", 60_000, "row", "1,2") == 1
    assert client.hgetall("day") == {b"row": b"1,2"}


async def test_a_run_is_refused_if_the_store_lacks_an_earlier_one_with_a_reply(me: Process) -> None:
    key = run_key("caller", "me")
    pending = [PendingDecision([TOKENS], Costs(prompt_tokens=3), "a", object())]

    def admit(number: int, acked: int) -> Any:
        return run_at(me.client, ADMIT, *script_args.admit_args(pending, me.spent, LEASE, Run(key, number, acked)), START)

    held = Reservation("a", [TOKENS], Costs(prompt_tokens=3), [TOKENS.slot_at(START)], (), START)
    settle = script_args.settle_args([(held, Costs(prompt_tokens=1))], me.spent, Run(key, 9, 5))
    for script, keys, arguments in (
        (SETTLE, *settle),
        (REPLAY_USAGE, [key, "lockgate:{caller}:r:x", TOKENS.key], [9, 5, TOKENS.slot, TOKENS.slots, TOKENS.ttl, 1, 0, 7]),
        (CHECK_RUN, [key], [5]),
    ):
        with pytest.raises(ResponseError, match=r"^LOST "):
            run_at(me.client, script, keys, arguments, START)
    with pytest.raises(ResponseError, match=r"^LOST "):
        admit(6, 5)
    assert me.usage(TOKENS) == (0, None)
    assert not me.client.exists(key)
    assert admit(6, 0)[0][0] == 1
    assert me.client.hgetall(key) == {b"n": b"6", b"at": str(START).encode()}
    assert me.lives_ms(key) > 24 * 2 * 3_600_000
    assert admit(8, 6)[0][0] == 1
    assert admit(7, 6)[0][0] == 1  # delayed on a connection that was replaced
    assert me.client.hget(key, "n") == b"8"
    me.client.pexpire(key, 1000)
    assert run_at(me.client, CHECK_RUN, [key], [8], START) == 1
    assert me.lives_ms(key) > 24 * 2 * 3_600_000
    with pytest.raises(ResponseError, match=r"^LOST "):
        admit(10, 9)
    me.client.set(key, "foreign")
    with pytest.raises(ResponseError, match=r"^LOST "):
        admit(11, 8)
    assert admit(12, 0)[0][0] == 1
    assert me.client.hget(key, "n") == b"12"


SETS = ([TOKENS], [CALLS, TOKENS], [BUDGET], [TOKENS, BUDGET, CALLS], [TOTAL, Limit("k", "requests", 6, "s")])
"""Limits of calls, of which some share a limit."""


def contents(client: Any) -> dict[bytes, Any]:
    """Return the value of each key, except the clock of the test."""
    read = {b"hash": client.hgetall, b"string": client.get, b"zset": lambda key: client.zrange(key, 0, -1, withscores=True)}
    return {key: read[client.type(key)](key) for key in client.scan_iter() if key != CLOCK.encode()}


@pytest.mark.parametrize("seed", range(12))
async def test_calls_in_one_run_have_the_same_effects_as_in_a_run_each(me: Process, seed: int) -> None:
    chance = random.Random(seed)
    calls = [(chance.choice(SETS), Costs(1, chance.randrange(40), chance.randrange(9), chance.randrange(30)), f"c{at}") for at in range(40)]
    actual = [Costs(1, chance.randrange(60), chance.randrange(9), chance.randrange(30)) for _ in calls]
    results: list[Any] = []
    for size in (1, len(calls)):
        me.client.flushdb()
        spent = SettledSpend("me")
        replies: list[list[int]] = []
        for at in range(0, len(calls), size):
            asked = [PendingDecision(*call, object(), force=call[2] == "c7") for call in calls[at : at + size]]
            replies += run_at(me.client, ADMIT, *script_args.admit_args(asked, spent, LEASE, NO_RUN), START)
        admitted = contents(me.client)
        held = [Reservation(id, limits, costs, reply[3::3], (), START) for (limits, costs, id), reply in zip(calls, replies, strict=True)]
        for each, usage in zip(held, actual, strict=True):
            for limit, slot in zip(each.limits, each.slots, strict=False):
                if limit.kind == "spend" and replies[int(each.id[1:])][0]:
                    spent.add(limit.key, slot, usage.spend)
        settled = 0
        for at in range(0, len(calls), size):
            batch = list(zip(held[at : at + size], actual[at : at + size], strict=True))
            settled += run_at(me.client, SETTLE, *script_args.settle_args(batch, spent, NO_RUN), START)
        results.append((replies, admitted, settled, contents(me.client)))
    assert results[0] == results[1]
    assert 0 < results[0][2] < len(calls)

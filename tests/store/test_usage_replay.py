"""Usage recorded during an outage is replayed to Redis once, into the slots where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import usage_replay
from gateway.store.limit import US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.memory import steady_now
from gateway.store.outage import OutageLimiter
from gateway.store.runs import Runs
from gateway.store.usage_replay import UsageReplay
from gateway.store.window_usage import SlotUsage, WindowUsage
from tests.flows.live import eventually
from tests.store.decisions import remaining
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import run_command


def test_replay_of_a_long_outage_contains_only_unexpired_slots() -> None:
    moment = [1_900_000_000 * US_PER_S]
    outage = OutageLimiter(now=lambda: moment[0])
    minute, hour = Limit("k", "tokens", 6000, "min"), Limit("k", "tokens", 10**6, "h")
    outage.begin(1)
    for index in range(600):  # ten minutes at ten tokens per second
        moment[0] += US_PER_S
        found = outage.decide([minute, hour], Costs(prompt_tokens=10), f"o{index}")
        assert isinstance(found, Reservation)
        outage.settle(found, Costs(prompt_tokens=10))
    replayed = {usage.limit.window: sum(usage.slots.values()) for usage in outage.recover()[0]}
    assert 600 <= replayed["min"] <= 620
    assert replayed["h"] == 6000
    assert outage.recover() == ([], [])


def test_usage_that_no_longer_counts_takes_no_number_of_a_run() -> None:
    sent: list[Sequence[Any]] = []
    replay = UsageReplay(lambda script, keys, arguments, on_reply: sent.append(arguments), Runs("me", WindowUsage()))
    minute = Limit("k", "tokens", 6000, "min")
    replay.replay([SlotUsage(minute, {minute.slot_at(steady_now()) - 10 * minute.slots: 50})])
    assert (sent, replay.unconfirmed()) == ([], [])
    replay.announce("caller")
    replay.announce("caller")
    assert sent == [[1, 0], [2, 1]]  # a run that was never sent would count as lost


def test_usage_that_no_longer_counts_does_not_delay_the_usage_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_replay, "MAX_IN_FLIGHT", 1)
    monkeypatch.setattr(usage_replay, "MAX_ENTRIES_PER_COMMAND", 1)
    sent: list[Sequence[Any]] = []
    replay = UsageReplay(lambda script, keys, arguments, on_reply: sent.append(keys[2:]), Runs("me", WindowUsage()))
    minute, now = Limit("k", "tokens", 6000, "min"), Limit("k", "tokens", 6000, "min").slot_at(steady_now())
    expired = [SlotUsage(minute, {now - 10 * minute.slots: 50}) for _ in range(3)]
    replay.replay([*expired, SlotUsage(minute, {now: 50})])
    assert sent == [[minute.key]]


async def test_usage_is_replayed_into_its_slots_once(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    minute, empty = Limit("k", "tokens", 6000, "min"), Limit("empty", "tokens", 1000, "h")
    for at in range(3):
        await limiter.admit([minute], Costs(prompt_tokens=100), f"before{at}")
    now = minute.slot_at(steady_now())
    answers = iter([ConnectionError("lost after execution")])

    def run(script: str, keys: Sequence[str], arguments: Sequence[Any], done: Callable[[Any], Any]) -> None:
        limiter.connections.run(script, keys, arguments, lambda reply: done(next(answers, reply)))

    usage_replay = UsageReplay(run, Runs("me", WindowUsage()))
    ages = (0, 1, 30, 60, minute.slots - 5, minute.slots + 5, 10 * minute.slots)
    this_hour = empty.slot_at(steady_now())
    usages = [
        SlotUsage(minute, {now - age: 50 for age in ages}),
        SlotUsage(empty, {this_hour - age: 7 for age in (3, 100)}),
    ]
    usage_replay.replay(usages)
    await eventually(lambda: len(usage_replay._pending) == 2)
    usage_replay.replay([])  # without a reply the replay is sent again
    assert await remaining(limiter, minute) == 6000 - 3 * 100 - 5 * 50  # expired slots are left out
    assert await remaining(limiter, empty) == 1000 - 2 * 7
    slots = {int(field) for field in (await run_command(redis, "HGETALL", minute.key))[::2] if field.isdigit()}
    assert len(slots) in (4, 5)
    assert max(slots) - min(slots) in range(minute.slots - 8, minute.slots - 3)
    found = await limiter.admit([minute], Costs(prompt_tokens=5500), "too much for now")
    assert isinstance(found, Refusal)
    assert found.retry_after is not None
    assert found.retry_after < 10  # until the oldest replayed slot expires

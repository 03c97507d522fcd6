"""Settlements are kept until Redis has confirmed them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.ports import free_port
from gateway.config.redis_address import RedisAddress
from gateway.store import settlements as module
from gateway.store.connections import RedisConnections
from gateway.store.limit import NO_COSTS, Costs, Limit, Reservation
from gateway.store.resp import OnReply
from gateway.store.runs import Runs
from gateway.store.script_args import MAX_ENTRIES_PER_COMMAND, run_key
from gateway.store.settled_spend import SettledSpend
from gateway.store.settlements import Settlements
from gateway.store.window_usage import WindowUsage
from tests.flows.live import eventually

LIMIT, TARGET = Limit("k", "tokens", 100, "h"), Limit("p", "tokens", 100, "h", side="target")


def call(id: str, limit: Limit = LIMIT) -> Reservation:
    """Return a call without a charge."""
    return Reservation(id, [limit], Costs(prompt_tokens=3), [limit.slot_at(0)], (), 0)


def made(address: RedisAddress) -> tuple[RedisConnections, Settlements]:
    """Return connections that are not open, and settlements."""
    connections = RedisConnections(address, lambda up: None, lambda line: None, 20.0)
    return connections, Settlements(connections, Runs("me", WindowUsage()), SettledSpend("me"))


async def test_a_settlement_is_kept_while_redis_is_unavailable() -> None:
    _, settlements = made(RedisAddress(port=free_port()))
    assert not settlements
    settlements.new.append((call("a"), NO_COSTS))
    sent: list[str] = []
    settlements.send(lambda: sent.append("all"))
    assert (settlements.new, list(settlements.pending), sent) == ([], ["a"], ["all"])
    settlements.new.append((call("b"), NO_COSTS))
    assert {each.id for each, _ in settlements.unconfirmed()} == {"a", "b"}


async def test_a_settlement_is_unconfirmed_until_its_reply(redis: RedisAddress) -> None:
    connections, settlements = made(redis)
    await connections.start()
    settlements.defer(call("a"), NO_COSTS)
    settlements.new.append((call("b"), NO_COSTS))
    settlements.send()
    assert {each.id for each, _ in settlements.unconfirmed()} == {"a", "b"}
    assert settlements
    await eventually(lambda: not settlements)
    assert settlements.unconfirmed() == []
    await connections.stop()


async def test_the_number_of_kept_settlements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_SETTLEMENTS", 2)
    connections, settlements = made(RedisAddress(port=free_port()))
    for id in "abc":
        settlements.defer(call(id), NO_COSTS)
    assert list(settlements.pending) == ["a", "b"]
    assert connections.errors == {"forgotten": 1}


class Answered(RedisConnections):
    """Connections whose replies the test gives."""

    def __init__(self) -> None:
        super().__init__(RedisAddress(port=free_port()), lambda up: None, lambda line: None, 20.0)
        self.up = True
        self.sent: list[tuple[str, list[str], OnReply]] = []
        """The key of the run, the ids of the settled calls, and the function for the reply, of each command."""

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: OnReply) -> None:
        """Keep a command."""
        self.sent.append((keys[0], [key.rpartition(":")[2] for key in keys if ":r:" in key], on_reply))


def answered() -> tuple[Answered, Runs, Settlements]:
    """Return connections whose replies the test gives, the runs of a process, and its settlements."""
    connections, runs = Answered(), Runs("me", WindowUsage())
    return connections, runs, Settlements(connections, runs, SettledSpend("me"))


def test_settlements_are_sent_by_side_and_in_commands_of_limited_size() -> None:
    connections, runs, settlements = answered()
    count = MAX_ENTRIES_PER_COMMAND + 1
    settlements.defer(call("old"), NO_COSTS)
    settlements.new += [(call(f"c{number}"), NO_COSTS) for number in range(count)]
    settlements.new.append((call("t", TARGET), NO_COSTS))
    done: list[str] = []
    settlements.send(lambda: done.append("all"))
    assert (settlements.new, settlements.pending) == ([], {})
    caller, target = run_key("caller", "me"), run_key("target", "me")
    assert [(key, len(ids)) for key, ids, _ in connections.sent] == [(caller, MAX_ENTRIES_PER_COMMAND), (caller, 2), (target, 1)]
    assert [ids[-1] for _, ids, _ in connections.sent] == ["c99", "old", "t"]
    for at, (_, _, reply) in enumerate(connections.sent):
        assert (done, len(settlements.unconfirmed())) == ([], [count + 2, 3, 1][at])
        reply([1])
    assert (done, settlements.unconfirmed()) == (["all"], [])
    assert (runs.latest("caller").acked, runs.latest("target").acked) == (2, 1)
    settlements.send()
    assert len(connections.sent) == 3  # each is sent once


def test_a_settlement_without_a_reply_is_sent_again() -> None:
    connections, runs, settlements = answered()
    settlements.new.append((call("a"), NO_COSTS))
    done: list[str] = []
    settlements.send(lambda: done.append("all"))
    connections.sent[0][2](ConnectionError("closed"))
    assert (done, list(settlements.pending), runs.latest("caller").acked) == (["all"], ["a"], 0)
    settlements.new.append((call("b"), NO_COSTS))
    settlements.send()
    assert connections.sent[1][1] == ["b", "a"]
    connections.sent[1][2]([1, 1])
    assert not settlements
    assert runs.own_usage([], [], []) == {}  # nothing was used


def test_a_reply_records_what_its_calls_used() -> None:
    connections, runs, settlements = answered()
    slot = LIMIT.slot_at(runs._now())
    settlements.new.append((Reservation("a", [LIMIT], NO_COSTS, [slot], (), 0), Costs(prompt_tokens=7)))
    settlements.send()
    connections.sent[0][2]([1])
    assert runs.own_usage([], [], []) == {LIMIT.key: 7}


def test_without_settlements_nothing_is_sent_and_the_caller_is_told_at_once() -> None:
    connections, _, settlements = answered()
    done: list[str] = []
    settlements.send(lambda: done.append("all"))
    settlements.send()
    assert (connections.sent, done) == ([], ["all"])


async def test_sending_ends_the_delay_of_collecting() -> None:
    _, _, settlements = answered()
    settlements.timer = timer = asyncio.get_running_loop().call_later(1000, settlements.send)
    settlements.send()
    assert timer.cancelled()
    assert settlements.timer is None


def test_the_first_settlement_of_a_call_is_kept() -> None:
    _, _, settlements = answered()
    settlements.defer(call("a"), Costs(prompt_tokens=1))
    settlements.defer(call("a"), Costs(prompt_tokens=2))
    assert settlements.pending["a"][1] == Costs(prompt_tokens=1)

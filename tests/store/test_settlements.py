"""Settlements are kept until Redis has confirmed them."""

from __future__ import annotations

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import settlements as module
from gateway.store.connections import RedisConnections
from gateway.store.limit import NO_COSTS, Costs, Limit, Reservation
from gateway.store.runs import Runs
from gateway.store.settled_spend import SettledSpend
from gateway.store.settlements import Settlements
from gateway.store.window_usage import WindowUsage
from tests.flows.live import eventually
from tests.support.redis import free_port

LIMIT = Limit("k", "tokens", 100, "h")


def call(id: str) -> Reservation:
    """Return a call without a charge."""
    return Reservation(id, [LIMIT], Costs(prompt_tokens=3), [LIMIT.slot_at(0)], (), 0)


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

"""Connections to the store: changes of their state, errors by kind, and scripts that fail immediately while the store is unavailable."""

from __future__ import annotations

from typing import Any

from benchmarks.ports import free_port
from gateway.config.redis_address import RedisAddress
from gateway.store.connection import RedisConnection
from gateway.store.connections import RedisConnections
from gateway.store.scripts import PUBLISH
from tests.flows.live import eventually
from tests.support.redis import RedisServer


async def test_scripts_fail_at_once_while_the_store_is_unavailable() -> None:
    lines: list[str] = []
    connections = RedisConnections(RedisAddress(port=free_port()), lambda up: None, lines.append)
    await connections.start()
    replies: list[Any] = []
    connections.run(PUBLISH, ["lockgate:{caller}:k"], [], replies.append)
    assert isinstance(replies[0], ConnectionError)
    assert not connections.up
    assert connections.in_reported_outage
    assert connections.errors["connect"] >= 1
    assert [line.endswith("applying outage modes") for line in lines] == [True]
    await connections.stop()


async def test_state_changes_are_passed_on(own_redis: RedisServer) -> None:
    changes: list[bool] = []
    connections = RedisConnections(own_redis.address, changes.append, lambda line: None, 10.0)
    await connections.start()
    own_redis.kill()
    await eventually(lambda: changes == [True, False])
    own_redis.start()
    await eventually(lambda: changes == [True, False, True])
    await connections.stop()


async def test_a_connection_locates_its_server_again_for_each_connect(own_redis: RedisServer) -> None:
    addresses = iter([RedisAddress(port=free_port()), own_redis.address])
    errors: list[str] = []
    reasons: list[str] = []

    async def locate() -> RedisAddress:
        return next(addresses)

    connection = RedisConnection(locate, "lockgate:{caller}:probe", 10.0, reasons.append, errors.append)
    await connection.start()
    await eventually(lambda: connection.up)
    assert errors == ["connect"]
    assert [bool(reason) for reason in reasons] == [True, False]
    await connection.stop()

"""The RESP connection: order of replies, errors, and the end of a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis
import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.resp import connect
from tests.flows.live import eventually
from tests.support.redis import RedisServer


async def test_pipelined_replies_arrive_in_order(redis: RedisAddress) -> None:
    connection = await connect(redis, lambda: None)
    replies: list[Any] = []
    for number in range(50):
        connection.send(("ECHO", number), replies.append)
    assert await connection.execute("ECHO", "last") == b"last"
    assert replies == [str(number).encode() for number in range(50)]
    connection.abort()


async def test_an_error_reply_is_raised(redis: RedisAddress) -> None:
    connection = await connect(redis, lambda: None)
    with pytest.raises(hiredis.ReplyError, match="unknown command"):
        await connection.execute("NOSUCHCOMMAND")
    assert await connection.execute("PING") == b"PONG"
    connection.abort()


async def test_commands_in_flight_fail_if_the_connection_ends(own_redis: RedisServer) -> None:
    lost: list[bool] = []
    connection = await connect(own_redis.address, lambda: lost.append(True))
    own_redis.freeze()
    waiting = asyncio.create_task(connection.execute("PING"))
    await asyncio.sleep(0)
    own_redis.kill()
    with pytest.raises(ConnectionError):
        await waiting
    await eventually(lambda: lost == [True])
    with pytest.raises(ConnectionError):
        await connection.execute("PING")


async def test_a_topology_is_not_a_server() -> None:
    with pytest.raises(ValueError, match="single server"):
        await connect(RedisAddress(kind="cluster", nodes=(("127.0.0.1", 1),)), lambda: None)


async def test_held_commands_are_written_at_once(redis: RedisAddress) -> None:
    connection = await connect(redis, lambda: None)
    transport, written = connection._transport, []
    assert transport is not None

    class Recording:
        """Notes each write."""

        def write(self, data: bytes) -> None:
            """Note the data, and write it."""
            written.append(data)
            transport.write(data)

    connection._transport = Recording()  # type: ignore[assignment]
    replies: list[Any] = []
    connection.hold_writes()
    for number in range(3):
        connection.send(("ECHO", str(number)), replies.append)
    assert written == []
    connection.write_held()
    connection.send(("ECHO", "3"), replies.append)
    await eventually(lambda: len(replies) == 4)
    assert replies == [b"0", b"1", b"2", b"3"]
    assert len(written) == 2
    transport.abort()


async def test_held_commands_fail_if_the_connection_ends(own_redis: RedisServer) -> None:
    connection = await connect(own_redis.address, lambda: None)
    replies: list[Any] = []
    connection.hold_writes()
    connection.send(("ECHO", "1"), replies.append)
    connection.abort()
    connection.write_held()
    await eventually(lambda: bool(replies))
    assert isinstance(replies[0], ConnectionError)

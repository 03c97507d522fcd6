"""The scripts in a real Redis, at a time that the test sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from redis import Redis

from gateway.config.redis_address import RedisAddress
from gateway.store.script_args import Run

CLOCK = "lockgate:{caller}:clock"
NO_RUN = Run("lockgate:{caller}:run:me")
"""A run that is not recorded."""


@pytest.fixture
def client(redis: RedisAddress) -> Iterator[Any]:
    """A client of the shared Redis that waits for each reply."""
    where: dict[str, Any] = {"unix_socket_path": redis.path} if redis.path else {"host": redis.host, "port": redis.port}
    found = Redis(**where)
    yield found
    found.close()


def run_at(client: Any, script: str, keys: Sequence[str], arguments: Sequence[Any], now: int) -> Any:
    """Run a script as if the time were `now`, in microseconds."""
    head, _, rest = script.partition("local floor = math.floor")
    assert rest
    assert "TIME" in head
    client.set(CLOCK, now)
    frozen = f"local now = tonumber(redis.call('GET', '{CLOCK}'))\nlocal floor = math.floor{rest}"
    return client.eval(frozen, len(keys), *keys, *arguments)

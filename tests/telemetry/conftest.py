"""Fixtures of the telemetry tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.redis import RedisServer
from tests.support.redis_fixtures import servers, shared_cluster, shared_redis, shared_sentinel
from tests.support.trace_collector import Collector

__all__ = ["servers", "shared_cluster", "shared_redis", "shared_sentinel"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run an OTLP collector."""
    running = Collector()
    yield running
    running.close()


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a Redis server for one test."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()

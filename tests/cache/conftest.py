"""Fixtures of the tests of the cache: real Redis servers."""

from __future__ import annotations

from tests.support.redis_fixtures import own_redis, redis, shared_redis

__all__ = ["own_redis", "redis", "shared_redis"]

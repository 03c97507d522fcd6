"""Fixtures of the tests of limits: real Redis servers."""

from __future__ import annotations

from tests.support.redis_fixtures import own_redis, redis, servers, shared_cluster, shared_redis, shared_sentinel, start

__all__ = ["own_redis", "redis", "servers", "shared_cluster", "shared_redis", "shared_sentinel", "start"]

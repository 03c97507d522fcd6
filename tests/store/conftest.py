"""Fixtures of the tests of stores: real Redis servers, and every kind of limiter."""

from __future__ import annotations

from tests.store.frozen_scripts import client
from tests.support.redis_fixtures import limiter, own_redis, redis, servers, shared_cluster, shared_redis, shared_sentinel, start

__all__ = ["client", "limiter", "own_redis", "redis", "servers", "shared_cluster", "shared_redis", "shared_sentinel", "start"]

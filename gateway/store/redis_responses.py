"""Stores responses of the Responses API, captured contents of calls, and cached answers, in Redis for all processes that use it.

Each record is one key that expires by itself. An index contains the times at which the records expire, and a hash
contains their sizes and the sum of the sizes, which is limited. All keys of a store share one hash tag, so that one script can change
them together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.config.redis_address import RedisAddress
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_client import open_client
from gateway.store.responses import OVERHEAD_BYTES, Bounds

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.store.outage_log import OutageReporter

TAG = "responses"
INDEX, SIZES = f"lockgate:{{{TAG}}}:index", f"lockgate:{{{TAG}}}:sizes"
MAX_CONNECTIONS = 16
PAUSE_AFTER_FAILURE_S = 0.25
"""Time after a failed connection in which no other is tried, so that calls do not wait one by one for a dead server."""
_DROP = """
-- Delete a key to which another program has given a value of another type. Records that the index no longer has expire by themselves.
for key, reply in pairs({[KEYS[1]] = redis.pcall('ZCARD', KEYS[1]), [KEYS[2]] = redis.pcall('HGET', KEYS[2], '')}) do
  if type(reply) == 'table' and string.find(reply.err or '', 'WRONGTYPE', 1, true) then redis.call('DEL', key) end
end
local total = tonumber(redis.call('HGET', KEYS[2], 'total') or 0)
local function drop(key)
  total = total - tonumber(redis.call('HGET', KEYS[2], key) or 0)
  redis.call('ZREM', KEYS[1], key)
  redis.call('HDEL', KEYS[2], key)
  return redis.call('DEL', key)
end
"""
_SAVE = (
    _DROP
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl, size, max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HSET', KEYS[2], 'total', total) -- fails in a full Redis, before anything is deleted
drop(KEYS[3])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do drop(key) end
while total + size > max do
  local oldest = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'LIMIT', 0, 1)[1]
  if not oldest then
    total = 0
    break
  end
  drop(oldest)
end
redis.call('HSET', KEYS[2], 'total', total)
redis.call('SET', KEYS[3], ARGV[1], 'PX', ttl)
redis.call('ZADD', KEYS[1], now + ttl, KEYS[3])
redis.call('HSET', KEYS[2], KEYS[3], size)
redis.call('HSET', KEYS[2], 'total', total + size)
return 1
"""
)
_DELETE = (
    _DROP
    + """
local deleted = drop(KEYS[3])
redis.call('HSET', KEYS[2], 'total', total)
return deleted
"""
)


class RedisResponses:
    """Records in Redis."""

    def __init__(
        self,
        address: RedisAddress,
        report: OutageReporter,
        now: Callable[[], float] = time.monotonic,
        *,
        tag: str = TAG,
        subject: str = "responses",
    ) -> None:
        """`report` gets a line for each failure of the store, and one when the store works again.

        `tag` is the hash tag. `subject` names the records in these lines.
        """
        self._tag = tag
        self._subject = subject
        self._index, self._sizes = f"lockgate:{{{tag}}}:index", f"lockgate:{{{tag}}}:sizes"
        self._address = address
        self._report = report
        self._now = now
        self._client: Redis | None = None
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._failed_until = 0.0
        self._failure = ""

    async def check(self) -> None:
        """Raise StoreUnavailableError if the store cannot be used now."""
        await self._run("ping")

    async def load(self, owner: str, id: str) -> bytes | None:
        """Return a record, or None if it is unknown, expired or not a string."""
        record: bytes | None = await self._run("get", self._key(owner, id))
        return record

    async def save(self, owner: str, id: str, record: bytes, bounds: Bounds) -> None:
        """Store a record, and delete the oldest ones if this is needed to make room for it."""
        ttl_ms, size = max(1, int(bounds.ttl_s * 1000)), len(record) + OVERHEAD_BYTES
        await self._run("eval", _SAVE, 3, self._index, self._sizes, self._key(owner, id), record, ttl_ms, size, bounds.max_bytes)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a record. Return False if it is unknown or expired."""
        return bool(await self._run("eval", _DELETE, 3, self._index, self._sizes, self._key(owner, id)))

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # closing a lost connection may fail
                await client.aclose()

    async def _run(self, command: str, *arguments: Any) -> Any:
        """Run one command. Raise StoreUnavailableError if the command fails."""
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        task = asyncio.current_task()
        assert task is not None
        cancellations = task.cancelling()
        async with self._connections:
            if self._now() < self._failed_until:
                raise StoreUnavailableError(self._failure)
            try:
                if self._client is None:
                    self._client = open_client(self._address, self._tag)
                result = await getattr(self._client, command)(*arguments)
            except (RedisError, OSError, ValueError) as error:
                reason = str(error)[:200] or type(error).__name__
                if command == "get" and reason.startswith("WRONGTYPE"):
                    return None
                if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
                    self._failed_until = self._now() + PAUSE_AFTER_FAILURE_S
                self._failure = reason
                self._report(f"store: {self._subject} can be neither stored nor read: {reason}", True)
                raise StoreUnavailableError(reason) from None
        if task.cancelling() > cancellations:  # asyncio.wait_for of Python 3.11, which redis-py uses, may lose a cancellation
            raise asyncio.CancelledError
        if self._failure:
            self._failure = ""
            self._report(f"store: {self._subject} can be stored and read again", False)
        return result

    def _key(self, owner: str, id: str) -> str:
        return f"lockgate:{{{self._tag}}}:kept:{owner}:{id}"

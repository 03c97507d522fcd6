"""Call records in a Redis stream, which all gateways with the same store share.

All keys have one hash tag, so that one script can add a batch and delete the oldest records beyond the limits on age and
size. Each batch has a number, so that a batch that is repeated after a lost reply is added once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gateway.config.redis_address import RedisAddress
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_client import open_client
from gateway.store.redis_responses import RedisResponses
from gateway.store.responses import Bounds
from gateway.telemetry.call_content import CallContent, stored_content
from gateway.telemetry.record_file import NO_CONTENT

if TYPE_CHECKING:
    from redis.asyncio import Redis

TAG = "calls"
STREAM, SIZE = f"lockgate:{{{TAG}}}:records", f"lockgate:{{{TAG}}}:size"
FIELD = b"line"
CONTENT_OWNER = "content"
MAX_LINES = 10_000
"""Maximum number of lines that wait while Redis is unavailable."""
MAX_BATCH = 200
"""Maximum number of lines that one script adds, because a script blocks Redis while it runs."""
_APPEND = """
-- Another program may have given a key another type or value.
local function is_damaged(reply)
  return type(reply) == 'table' and string.find(reply.err or '', 'WRONGTYPE', 1, true)
end
if is_damaged(redis.pcall('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)) then redis.call('DEL', KEYS[1]) end
for i = 2, 3 do
  local reply = redis.pcall('GET', KEYS[i])
  if is_damaged(reply) or (reply and not tonumber(reply)) then redis.call('DEL', KEYS[i]) end
end
local number, ttl, max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ttl
local size = tonumber(redis.call('GET', KEYS[2]) or 0)
if redis.call('EXISTS', KEYS[1]) == 0 then size = 0 end
if number > tonumber(redis.call('GET', KEYS[3]) or 0) then
  redis.call('SET', KEYS[3], ARGV[1], 'EX', 3600)
  for i = 4, #ARGV do
    redis.call('XADD', KEYS[1], '*', 'line', ARGV[i])
    size = size + #ARGV[i] + 64
  end
end
for round = 1, 10 do
  local deleted, count = {}, 0
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', round == 1 and 1 or 100)) do
    if size <= max and tonumber(string.match(entry[1], '^%d+')) >= oldest then break end
    deleted[#deleted + 1] = entry[1]
    size = size - #entry[2][2] - 64
  end
  if #deleted == 0 then break end
  redis.call('XDEL', KEYS[1], unpack(deleted))
end
redis.call('SET', KEYS[2], size)
return 1
"""


class RecordStream:
    """Adds records to the stream. Only one thread, which has its own event loop, uses it."""

    def __init__(self, address: RedisAddress, ttl_s: float, max_bytes: int, content_bounds: Bounds = NO_CONTENT) -> None:
        self._address = address
        self._ttl_ms = int(ttl_s * 1000)
        self._max_bytes = max_bytes
        self._content_bounds = content_bounds
        self._contents = contents_at(address)
        self._runner = asyncio.Runner()
        self._client: Redis | None = None
        self._writer = f"lockgate:{{{TAG}}}:writer:{os.urandom(8).hex()}"
        self._number = 0
        self._unsent: list[bytes] = []
        self._batch: list[bytes] = []
        """The lines that were sent with `_number` and may not have been added."""
        self.drops = 0

    @property
    def waits(self) -> bool:
        """Whether lines wait until Redis is available again."""
        return bool(self._unsent or self._batch)

    def append(self, lines: Iterable[bytes], now: float, contents: Sequence[CallContent] = ()) -> None:
        """Add the records of log lines, and the contents of calls.

        Raise StoreUnavailableError if Redis fails. The lines then wait for the next `append`; those beyond MAX_LINES,
        and the contents, are dropped and counted.
        """
        self._unsent += [line.rstrip(b"\n") for line in lines]
        surplus = max(0, len(self._unsent) - MAX_LINES)
        del self._unsent[MAX_LINES:]
        self.drops += surplus
        self._runner.run(self._send_all(contents))

    def close(self) -> None:
        """Close the connection. Lines that still wait are dropped."""
        self._runner.run(self._disconnect())
        self._runner.close()
        self.drops += len(self._unsent) + len(self._batch)

    async def _send_all(self, contents: Sequence[CallContent]) -> None:
        unsaved = list(contents)
        try:
            await self._send_lines()
            while unsaved:
                await self._contents.save(CONTENT_OWNER, unsaved[0].id, stored_content(unsaved[0]), self._content_bounds)
                del unsaved[0]
        finally:
            self.drops += len(unsaved)

    async def _send_lines(self) -> None:
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = open_client(self._address, TAG)
            while self.waits:
                if not self._batch:
                    self._batch, self._unsent = self._unsent[:MAX_BATCH], self._unsent[MAX_BATCH:]
                    self._number += 1
                arguments: list[Any] = [self._number, self._ttl_ms, self._max_bytes, *self._batch]
                await self._client.eval(_APPEND, 3, STREAM, SIZE, self._writer, *arguments)
                self._batch = []
        except (RedisError, OSError, ValueError) as error:
            await self._disconnect()
            raise StoreUnavailableError(str(error)[:200] or type(error).__name__) from None

    async def _disconnect(self) -> None:
        await self._contents.close()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # closing a lost connection may fail
                await client.aclose()


def contents_at(address: RedisAddress) -> RedisResponses:
    """Return the store of the captured contents of calls in this Redis. Their owner is CONTENT_OWNER, and their ids are request ids."""
    return RedisResponses(address, lambda line, failed: None, tag=TAG)

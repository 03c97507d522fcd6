"""Stores for cached answers: one in the memory of a process, and one in Redis, which also holds the leases of requests in flight.

A lease belongs to the process that sends the request for a key. It names its holder, and expires unless the holder renews it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.config.redis_address import RedisAddress
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.store.redis_responses import RedisResponses
from gateway.store.responses import MemoryResponses, ResponseStore

if TYPE_CHECKING:
    from gateway.store.outage_log import OutageReporter

TAG = "answers"
FAILED = b"x"
"""The beginning of the value that takes the place of a lease for a moment if its holder has no answer."""
_LEAD = """
local record = redis.pcall('GET', KEYS[1])
if type(record) == 'string' and redis.sha1hex(record) ~= ARGV[3] then return {record, false} end
local holder = redis.call('GET', KEYS[2])
if holder then return {false, holder} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {false, false}
"""
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[3] .. ARGV[1], 'PX', ARGV[2])
return 1
"""
_HOLDERS = """
local holders = {}
for at, key in ipairs(KEYS) do holders[at] = redis.call('GET', key) or '' end
return holders
"""


class Lead(NamedTuple):
    """The answer of a key, or the holder of its lease; neither if the lease now belongs to the caller of `lead`."""

    record: bytes | None
    holder: bytes | None


class MemoryAnswers(MemoryResponses):
    """Answers in the memory of this process. If there is no room, the least recently used ones are dropped."""

    async def load(self, owner: str, id: str) -> bytes | None:
        """Return a record, or None if it is unknown or expired."""
        record = await super().load(owner, id)
        if record is not None:
            self._records.move_to_end((owner, id))
        return record


class RedisAnswers(RedisResponses):
    """Answers and leases in Redis. All methods raise StoreUnavailableError if the store cannot be used."""

    def __init__(self, address: RedisAddress, report: OutageReporter) -> None:
        super().__init__(address, report, tag=TAG, subject="cached answers")

    async def lead(self, key: str, token: bytes, lease_ms: int, unwanted: str) -> Lead:
        """Return the answer of a key or the holder of its lease. If there is neither, take the lease.

        `token` is the name of the holder. `unwanted` is the SHA-1 of an answer that the call does not accept, in hexadecimal, or "".
        """
        found = await self._run("eval", _LEAD, 2, self._key("", key), self._lease(key), token, lease_ms, unwanted)
        return Lead(*found)

    async def renew(self, key: str, token: bytes, lease_ms: int) -> bool:
        """Renew a lease, or take it again if it has expired. Return False if it belongs to another holder."""
        return bool(await self._run("eval", _RENEW, 1, self._lease(key), token, lease_ms))

    async def release(self, key: str, token: bytes, failed_ms: int = 0) -> None:
        """End a lease. For `failed_ms`, show that its holder has no answer. Do nothing if the lease belongs to another holder."""
        await self._run("eval", _RELEASE, 1, self._lease(key), token, failed_ms, FAILED)

    async def holders(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the holders of the leases of several keys."""
        found: list[bytes] = await self._run("eval", _HOLDERS, len(keys), *(self._lease(key) for key in keys))
        return [holder or None for holder in found]

    def _lease(self, key: str) -> str:
        return f"lockgate:{{{TAG}}}:lease:{key}"


def answer_store(config: Config, report: OutageReporter) -> ResponseStore:
    """Return the store of answers. `report` gets a line for each failure, and one when the store works again."""
    if config.store.startswith("memory:"):
        return MemoryAnswers()
    return RedisAnswers(store_address(config), report)

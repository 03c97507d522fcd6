"""Run-time keys and teams in Redis, shared by all gateways that use the same store.

Every change increments a version. Each process reads the version about once a second, and reads the keys only if the
version has changed. Calls never wait for Redis. If Redis has a lower version (because it is empty, was restored from an
old snapshot, or has other data under these names), the process writes back its own copy of the keys, so that a revoked
key stays revoked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from gateway.keys.store import Entry, RuntimeKey
from gateway.keys.stored_key import KEYS, EntryKind, decode_entry, encode_entry
from gateway.store.errors import StoreUnavailableError
from gateway.store.redis_client import open_client

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.config.redis_address import RedisAddress

TAG = "keys"
_VERSION = """
-- Another program may have given a key another type or value. Both are then deleted, and each process writes back what it has loaded.
local function is_damaged(reply)
  return type(reply) == 'table' and string.find(reply.err or '', 'WRONGTYPE', 1, true)
end
local version = redis.pcall('GET', KEYS[2])
if is_damaged(redis.pcall('HGET', KEYS[1], '')) or is_damaged(version) or (version and not tonumber(version)) then
  redis.call('DEL', KEYS[1], KEYS[2])
  return 0
end
return tonumber(version or 0)
"""
_PUT = """
local version = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), tonumber(ARGV[1])) + 1
if ARGV[4] == 'new' and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then return 0 end
if ARGV[4] == 'known' and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then return 0 end
if ARGV[5] ~= '' and redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[5] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[2]) else redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) end
redis.call('SET', KEYS[2], version)
return version
"""
_RESTORE = """
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""


class RedisStore(Generic[Entry]):
    """Entries in Redis."""

    is_volatile = False

    def __init__(self, address: RedisAddress, kind: EntryKind[Entry]) -> None:
        self._kind = kind
        self._names = f"lockgate:{{{TAG}}}:{kind.field}", f"lockgate:{{{TAG}}}:{kind.version}"
        self._address = address
        self._client: Redis | None = None
        self._version = 0
        self._raw: dict[str, bytes] = {}
        self._entries: dict[str, Entry] = {}

    async def put(self, name: str, entry: Entry | None, *, new: bool, before: Entry | None = None) -> bool:
        """Add, replace or remove an entry. The next `read_if_changed` returns the change."""
        text = b"" if entry is None else encode_entry(entry)
        expected = self._raw[name] if before is not None else b""
        is_done = await self._run("eval", _PUT, 2, *self._names, self._version, name, text, "new" if new else "known", expected)
        return bool(is_done)

    async def read_if_changed(self) -> Mapping[str, Entry] | None:
        """Read the version. Return all entries if the version is later than the known one, else None.

        If it is earlier, restore the known entries in Redis.
        """
        version = await self._run("eval", _VERSION, 2, *self._names)
        if version == self._version:
            return None
        if version < self._version:
            pairs = [part for name, text in self._raw.items() for part in (name, text)]
            await self._run("eval", _RESTORE, 2, *self._names, self._version, *pairs)
            return None
        raw = {name.decode(): text for name, text in (await self._run("hgetall", self._names[0])).items()}
        entries = {name: self._entries.get(name) if self._raw.get(name) == text else self._decode(text) for name, text in raw.items()}
        self._raw, self._version = raw, version
        self._entries = {name: entry for name, entry in entries.items() if entry is not None}
        return self._entries

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # closing a lost connection may fail
                await client.aclose()

    async def _run(self, command: str, *arguments: Any) -> Any:
        """Run one command. If the command fails, close the connection and raise StoreUnavailableError."""
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = open_client(self._address, TAG)
            return await getattr(self._client, command)(*arguments)
        except (RedisError, OSError, ValueError) as error:
            await self.close()
            raise StoreUnavailableError(str(error)[:200] or type(error).__name__) from None

    def _decode(self, text: bytes) -> Entry | None:
        """Decode an entry. Return None if the entry is invalid: an invalid key admits no calls."""
        try:
            return decode_entry(text, self._kind)
        except msgspec.DecodeError:
            return None


class RedisKeyStore(RedisStore[RuntimeKey]):
    """Run-time keys in Redis."""

    def __init__(self, address: RedisAddress) -> None:
        super().__init__(address, KEYS)

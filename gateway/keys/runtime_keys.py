"""Keys that operators make while the gateway runs: kept by their SHA-256 in the store, known to every process of every gateway.

A counter in Redis goes up with every change, and each process asks for it about once a second: one cheap command, none of it for any
call. While the store is away the keys known last hold. A store that comes back with less than it had (empty, or from an old snapshot)
is given what is known here, so that a revoked key stays revoked. One process without a Redis keeps them in a file: key_file.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gateway.config.key import KeyConfig
from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.store.errors import StoreUnavailableError
from gateway.store.outage_log import OutageReporter
from gateway.store.redis_client import open_client

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.config.redis_address import RedisAddress

POLL_EVERY = 1.0
TAG = "keys"
HASH, VERSION = f"lockgate:{{{TAG}}}:made", f"lockgate:{{{TAG}}}:version"
_PUT = """
local version = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), tonumber(ARGV[1])) + 1
if ARGV[4] == 'new' and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then return 0 end
if ARGV[4] == 'known' and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[2]) else redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) end
redis.call('SET', KEYS[2], version)
return version
"""
_RESTORE = """
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
for at = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""


class RuntimeKey(msgspec.Struct, frozen=True):
    """A key made at run time. `shown` is its start and its end, for people; the key itself is kept nowhere."""

    entry: KeyConfig
    shown: str
    created: float


class KeyStore(Protocol):
    """Where keys made at run time are kept. `put` None removes; False when the name is taken, or not there."""

    is_volatile: bool

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add a new key, replace or remove a known one. StoreUnavailableError when that cannot be done now."""
        ...

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """All keys, when they changed since they were asked for last; else None. StoreUnavailableError."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class MemoryKeyStore:
    """Keys of one process, forgotten when it ends."""

    is_volatile = True

    def __init__(self) -> None:
        self._keys: dict[str, RuntimeKey] = {}
        self._changed = False

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add, replace or remove."""
        if (name in self._keys) == new:
            return False
        if key is None:
            del self._keys[name]
        else:
            self._keys[name] = key
        self._changed = True
        return True

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """All keys after a change."""
        changed, self._changed = self._changed, False
        return dict(self._keys) if changed else None

    async def close(self) -> None:
        """Nothing to let go of."""


class RedisKeyStore:
    """Keys in Redis, shared by all who use it."""

    is_volatile = False

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._client: Redis | None = None
        self._version = 0
        self._raw: dict[str, bytes] = {}
        self._keys: dict[str, RuntimeKey] = {}

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add, replace or remove; the next `read_if_changed` has it."""
        text = b"" if key is None else msgspec.json.encode(key)
        done = await self._run("eval", _PUT, 2, HASH, VERSION, self._version, name, text, "new" if new else "known")
        return bool(done)

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """One GET; and everything when its answer is not the one of last time."""
        version = int(await self._run("get", VERSION) or 0)
        if version == self._version:
            return None
        if version < self._version:
            pairs = [part for name, text in self._raw.items() for part in (name, text)]
            await self._run("eval", _RESTORE, 2, HASH, VERSION, self._version, *pairs)
            return None
        raw = {name.decode(): text for name, text in (await self._run("hgetall", HASH)).items()}
        keys = {name: self._keys[name] if self._raw.get(name) == text else _decode(text) for name, text in raw.items()}
        self._raw, self._keys, self._version = raw, {name: key for name, key in keys.items() if key is not None}, version
        return self._keys

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # a connection that was lost cannot be closed twice
                await client.aclose()

    async def _run(self, command: str, *arguments: Any) -> Any:
        """One command; StoreUnavailableError says why there is no answer, and the next one begins with a new connection."""
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = open_client(self._address, TAG)
            return await getattr(self._client, command)(*arguments)
        except (RedisError, OSError, ValueError) as error:
            await self.close()
            raise StoreUnavailableError(str(error)[:200] or type(error).__name__) from None


def key_store(config: Config, environ: Mapping[str, str]) -> KeyStore:
    """Where a configuration's keys made at run time are kept: with what limits count; beside the journal where that is one process."""
    from gateway.keys.file_store import FileKeyStore

    if not config.store.startswith("memory:"):
        return RedisKeyStore(store_address(config))
    folder = state_folder(config, environ)
    return MemoryKeyStore() if folder is None else FileKeyStore(folder)


def _decode(text: bytes) -> RuntimeKey | None:
    """None for what is no key of ours: it opens nothing."""
    try:
        return msgspec.json.decode(text, type=RuntimeKey)
    except msgspec.DecodeError:
        return None


class RuntimeKeys:
    """The keys made at run time, as this process knows them."""

    def __init__(self, store: KeyStore, changed: Callable[[], None], tell: OutageReporter) -> None:
        """`changed` is called after every change; `tell` gets a line when the store goes and when it comes back."""
        self.store = store
        self.keys: Mapping[str, RuntimeKey] = {}
        self.revoked = 0
        """Keys that were known here and are no more, whoever revoked them."""
        self.is_loaded = False
        """Whether the store could be asked since the start."""
        self._changed = changed
        self._tell = tell
        self._away = False
        self._lock = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None

    @property
    def entries(self) -> list[KeyConfig]:
        """What a configuration would say of them."""
        return [key.entry for key in self.keys.values()]

    async def start(self) -> None:
        """Learn the keys, and go on doing so."""
        await self._ask()
        if not self.store.is_volatile:
            self._polling = asyncio.create_task(self._poll(), name="run-time keys")

    async def stop(self) -> None:
        """Let go of the store."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await self.store.close()

    async def add(self, entry: KeyConfig, shown: str) -> RuntimeKey | None:
        """Keep a new key; None when there is one of that name. StoreUnavailableError."""
        key = RuntimeKey(entry, shown, time.time())
        return key if await self._put(entry.name, key, new=True) else None

    async def replace(self, key: RuntimeKey) -> bool:
        """Keep a changed key; False when there is none of that name. StoreUnavailableError."""
        return await self._put(key.entry.name, key, new=False)

    async def revoke(self, name: str) -> bool:
        """Forget a key; False when there is none of that name. StoreUnavailableError."""
        return await self._put(name, None, new=False)

    async def _put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        async with self._lock:
            await self._refresh()  # first what others did, so that the store's counter is ahead of what is known here
            done = await self.store.put(name, key, new=new)
            await self._refresh()
        return done

    async def _refresh(self) -> None:
        news = await self.store.read_if_changed()
        if news is None and not self.is_loaded:
            news = {}
        self.is_loaded = True
        if news is not None:
            self.revoked += len({key.entry.hash for key in self.keys.values()} - {key.entry.hash for key in news.values()})
            self.keys = news
            self._changed()

    async def _ask(self) -> None:
        try:
            async with self._lock:
                await self._refresh()
        except StoreUnavailableError as error:
            if not self._away:
                self._tell(f"store: keys made at run time cannot be read ({error}): those known last hold", True)
            self._away = True
        else:
            if self._away:
                self._tell("store: keys made at run time are read again", False)
            self._away = False

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_EVERY)
            await self._ask()

"""The copy that this process keeps of the keys that operators create while the gateway runs.

The store has only the SHA-256 digests of the keys, and every process polls it for changes. While the store is unavailable, the
last known keys stay valid.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from gateway.config.key import KeyConfig
from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.keys.file_store import FileKeyStore
from gateway.keys.redis_store import RedisKeyStore
from gateway.keys.store import KeyStore, MemoryKeyStore, RuntimeKey
from gateway.store.errors import StoreUnavailableError
from gateway.store.outage_log import OutageReporter

POLL_INTERVAL_S = 1.0


def key_store(config: Config, environ: Mapping[str, str]) -> KeyStore:
    """Return the key store of a configuration: Redis, else a file in the state folder, else memory."""
    if not config.store.startswith("memory:"):
        return RedisKeyStore(store_address(config))
    folder = state_folder(config, environ)
    return MemoryKeyStore() if folder is None else FileKeyStore(folder)


class RuntimeKeys:
    """The run-time keys of one process."""

    def __init__(self, store: KeyStore, on_change: Callable[[], None], report: OutageReporter) -> None:
        """`on_change` is called after every change.

        `report` receives a log line at the start and end of a store outage.
        """
        self.store = store
        self.keys: Mapping[str, RuntimeKey] = {}
        self.revoked = 0
        """Number of keys that any process has revoked since the start."""
        self.is_loaded = False
        """Whether the store has been read since the start."""
        self._on_change = on_change
        self._report = report
        self._is_unavailable = False
        self._lock = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None

    @property
    def entries(self) -> list[KeyConfig]:
        """The keys in the form of the configuration."""
        return [key.entry for key in self.keys.values()]

    async def start(self) -> None:
        """Read the keys, then poll for changes."""
        await self._refresh_or_report()
        if not self.store.is_volatile:
            self._polling = asyncio.create_task(self._poll(), name="run-time keys")

    async def stop(self) -> None:
        """Stop polling and close the store."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await self.store.close()

    async def add(self, entry: KeyConfig, shown: str) -> RuntimeKey | None:
        """Store a new key. Return None if the name is taken. Raise StoreUnavailableError if the store fails."""
        key = RuntimeKey(entry, shown, time.time())
        return key if await self._put(entry.name, key, new=True) else None

    async def replace(self, key: RuntimeKey) -> bool:
        """Store a changed key. Return False if the name is unknown. Raise StoreUnavailableError if the store fails."""
        return await self._put(key.entry.name, key, new=False)

    async def revoke(self, name: str) -> bool:
        """Remove a key. Return False if the name is unknown. Raise StoreUnavailableError if the store fails."""
        return await self._put(name, None, new=False)

    async def _put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        async with self._lock:
            await self._refresh()  # read the changes of other processes first, so that this process has the latest version
            is_done = await self.store.put(name, key, new=new)
            await self._refresh()
        return is_done

    async def _refresh(self) -> None:
        keys = await self.store.read_if_changed()
        if keys is None and not self.is_loaded:
            keys = {}
        self.is_loaded = True
        if keys is not None:
            self.revoked += len({key.entry.hash for key in self.keys.values()} - {key.entry.hash for key in keys.values()})
            self.keys = keys
            self._on_change()

    async def _refresh_or_report(self) -> None:
        try:
            async with self._lock:
                await self._refresh()
        except StoreUnavailableError as error:
            if not self._is_unavailable:
                self._report(f"store: run-time keys cannot be read ({error}); the last known keys stay valid", True)
            self._is_unavailable = True
        else:
            if self._is_unavailable:
                self._report("store: run-time keys can be read again", False)
            self._is_unavailable = False

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self._refresh_or_report()

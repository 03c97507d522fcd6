"""The copies, in this process, of the keys and teams that operators create at run time.

The store has only the SHA-256 digests of the keys. Every process polls it for changes, unless it is the memory of the process.
While the store is unavailable, the last known entries stay valid.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Generic

from msgspec.structs import replace

from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.keys.file_store import FileKeyStore, FileStore
from gateway.keys.redis_store import RedisKeyStore, RedisStore
from gateway.keys.store import Entry, EntryStore, MemoryKeyStore, MemoryStore, PreviousSecret, RuntimeKey, RuntimeTeam
from gateway.keys.stored_key import TEAMS
from gateway.store.errors import StoreUnavailableError
from gateway.store.outage_log import OutageReporter
from gateway.upstream.end_tasks import end_tasks

POLL_INTERVAL_S = 1.0
MAX_CHANGE_TRIES = 20
"""Maximum number of tries to change an entry that other processes change at the same time."""
MAX_PREVIOUS_SECRETS = 8
"""Maximum number of replaced secrets of a key that are accepted. If a key has more replaced secrets, the oldest are rejected."""


def key_store(config: Config, environ: Mapping[str, str]) -> EntryStore[RuntimeKey]:
    """Return the key store of a configuration: Redis, else a file in the state folder, else memory."""
    if not config.store.startswith("memory:"):
        return RedisKeyStore(store_address(config))
    folder = state_folder(config, environ)
    return MemoryKeyStore() if folder is None else FileKeyStore(folder)


def team_store(config: Config, environ: Mapping[str, str]) -> EntryStore[RuntimeTeam]:
    """Return the store of run-time teams, of the same kind as the key store."""
    if not config.store.startswith("memory:"):
        return RedisStore(store_address(config), TEAMS)
    folder = state_folder(config, environ)
    return MemoryStore() if folder is None else FileStore(folder, TEAMS)


class RuntimeEntries(Generic[Entry]):
    """The run-time keys or teams of one process."""

    name = "entries"
    """The plural name of the entries, for reports."""

    def __init__(self, store: EntryStore[Entry], on_change: Callable[[], None], report: OutageReporter) -> None:
        """`on_change` is called after every change.

        `report` receives a log line at the start and end of a store outage.
        """
        self.store = store
        self.by_name: Mapping[str, Entry] = {}
        self.is_loaded = False
        """Whether the store has been read since the start."""
        self._on_change = on_change
        self._report = report
        self._is_unavailable = False
        self._lock = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the entries, then poll for changes unless the store is volatile."""
        await self._refresh_or_report()
        if not self.store.is_volatile:
            self._polling = asyncio.create_task(self._poll(), name=f"run-time {self.name}")

    async def stop(self) -> None:
        """Stop polling and close the store."""
        await end_tasks([self._polling])
        await self.store.close()

    async def change(self, name: str, changed: Callable[[Entry], Entry]) -> tuple[Entry, Entry] | None:
        """Replace an entry with the result of `changed` for its latest version, which any process may have stored.

        Return the entries before and after the change, or None if the name is unknown. Raise StoreUnavailableError if the store
        fails or if other processes keep changing the entry.
        """
        async with self._lock:
            for _ in range(MAX_CHANGE_TRIES):
                await self._refresh()
                before = self.by_name.get(name)
                if before is None:
                    return None
                after = changed(before)
                if await self.store.put(name, after, new=False, before=before):
                    await self._refresh()
                    return before, after
        raise StoreUnavailableError(f"other processes keep changing '{name}'")

    async def revoke(self, name: str) -> bool:
        """Remove an entry. Return False if the name is unknown. Raise StoreUnavailableError if the store fails."""
        return await self._put(name, None, new=False)

    async def _put(self, name: str, entry: Entry | None, *, new: bool) -> bool:
        async with self._lock:
            await self._refresh()  # read the changes of other processes first, so that this process has the latest version
            is_done = await self.store.put(name, entry, new=new)
            await self._refresh()
        return is_done

    async def _refresh(self) -> None:
        entries = await self.store.read_if_changed()
        if entries is None and not self.is_loaded:
            entries = {}
        self.is_loaded = True
        if entries is not None:
            self._before_change(entries)
            self.by_name = entries
            self._on_change()

    def _before_change(self, entries: Mapping[str, Entry]) -> None:
        """Compare the new entries with the known ones before they are replaced."""

    async def _refresh_or_report(self) -> None:
        try:
            async with self._lock:
                await self._refresh()
        except StoreUnavailableError as error:
            if not self._is_unavailable:
                self._report(f"store: run-time {self.name} cannot be read ({error}); the last known {self.name} stay valid", True)
            self._is_unavailable = True
        else:
            if self._is_unavailable:
                self._report(f"store: run-time {self.name} can be read again", False)
            self._is_unavailable = False

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self._refresh_or_report()


class RuntimeKeys(RuntimeEntries[RuntimeKey]):
    """The run-time keys of one process."""

    name = "keys"

    def __init__(self, store: EntryStore[RuntimeKey], on_change: Callable[[], None], report: OutageReporter) -> None:
        super().__init__(store, on_change, report)
        self.revoked = 0
        """Number of secrets that any process has revoked since the start."""

    @property
    def keys(self) -> Mapping[str, RuntimeKey]:
        """The keys by name."""
        return self.by_name

    @property
    def entries(self) -> list[KeyConfig]:
        """The keys in the form of the configuration."""
        return [key.entry for key in self.by_name.values()]

    @property
    def accepted(self) -> list[KeyConfig]:
        """The entries of all secrets, present and replaced. The entry of a replaced secret expires at the end of its grace period."""
        return [entry for key in self.by_name.values() for entry in (*_previous_entries(key), key.entry)]

    @property
    def replaced(self) -> dict[str, float]:
        """The hashes of replaced secrets, with the Unix times at which their grace periods end."""
        return {previous.hash: previous.until for key in self.by_name.values() for previous in key.previous}

    async def add(self, entry: KeyConfig, shown: str) -> RuntimeKey | None:
        """Store a new key. Return None if the name is taken. Raise StoreUnavailableError if the store fails."""
        key = RuntimeKey(entry, shown, time.time())
        return key if await self._put(entry.name, key, new=True) else None

    def _before_change(self, entries: Mapping[str, RuntimeKey]) -> None:
        self.revoked += len(_accepted(self.by_name) - _accepted(entries))


class RuntimeTeams(RuntimeEntries[RuntimeTeam]):
    """The run-time teams of one process."""

    name = "teams"

    def merged(self, configured: Mapping[str, TeamConfig]) -> dict[str, TeamConfig]:
        """Return the teams of a configuration and the run-time teams.

        Configured teams take precedence over run-time teams of the same name.
        """
        return {**{name: team.entry for name, team in self.by_name.items()}, **configured}

    async def add(self, entry: TeamConfig) -> RuntimeTeam | None:
        """Store a new team. Return None if the name is taken. Raise StoreUnavailableError if the store fails."""
        team = RuntimeTeam(entry, time.time())
        return team if await self._put(entry.name, team, new=True) else None


def rotated(key: RuntimeKey, hash: str, shown: str, grace_s: float) -> RuntimeKey:
    """Return the key with a new secret. The present secret is accepted for `grace_s` more seconds."""
    now = time.time()
    previous = [each for each in key.previous if each.until > now]
    if grace_s > 0:
        previous.append(PreviousSecret(key.entry.hash, now + grace_s))
    return replace(key, entry=replace(key.entry, hash=hash), shown=shown, previous=tuple(previous[-MAX_PREVIOUS_SECRETS:]))


def _previous_entries(key: RuntimeKey) -> list[KeyConfig]:
    """Return an entry of the key for each replaced secret. Each entry expires at the end of the secret's grace period."""
    entries = []
    for previous in key.previous:
        until = datetime.fromtimestamp(previous.until, UTC)
        expires = until if key.entry.expires is None else min(until, key.entry.expires)
        entries.append(replace(key.entry, hash=previous.hash, expires=expires))
    return entries


def _accepted(keys: Mapping[str, RuntimeKey]) -> set[str]:
    """Return the hashes of the secrets that these keys accept now."""
    now = time.time()
    previous = {each.hash for key in keys.values() for each in key.previous if each.until > now}
    return previous | {key.entry.hash for key in keys.values()}

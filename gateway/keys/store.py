"""The interface of a store of run-time keys or teams, and the store of a process that has neither a state folder nor Redis.

`redis_store.py` shares entries among gateways. `file_store.py` keeps the entries of a gateway without Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.config.key import KeyConfig, TeamConfig


class PreviousSecret(msgspec.Struct, frozen=True):
    """The hash of a secret that a rotation replaced. The secret is accepted until `until`, a Unix time in seconds."""

    hash: str
    until: float


class RuntimeKey(msgspec.Struct, frozen=True):
    """A key that was created at run time. The key itself is never stored, only its hash in `entry`.

    `shown` is the beginning and end of the key, by which operators recognize it. `created` is a Unix time in seconds.
    """

    entry: KeyConfig
    shown: str
    created: float
    previous: tuple[PreviousSecret, ...] = ()
    """The secrets that rotations replaced."""


class RuntimeTeam(msgspec.Struct, frozen=True):
    """A team that was created at run time. `created` is a Unix time in seconds."""

    entry: TeamConfig
    created: float


Entry = TypeVar("Entry", bound=RuntimeKey | RuntimeTeam)


class EntryStore(Protocol[Entry]):
    """Stores run-time keys or teams by name."""

    is_volatile: bool
    """Whether the entries are lost when the process ends."""

    async def put(self, name: str, entry: Entry | None, *, new: bool, before: Entry | None = None) -> bool:
        """Add a new entry, replace a known one, or remove a known one if `entry` is None.

        Return False if the name of a new entry is taken, if the entry to replace or remove does not exist, or if the stored entry
        differs from `before`, the entry as `read_if_changed` returned it earlier. Raise StoreUnavailableError if the store fails.
        """
        ...

    async def read_if_changed(self) -> Mapping[str, Entry] | None:
        """Return all entries, or None if they are unchanged since the last call. Raise StoreUnavailableError if the store fails."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class MemoryStore(Generic[Entry]):
    """Entries of one process, which are lost when the process ends."""

    is_volatile = True

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._has_changed = False

    async def put(self, name: str, entry: Entry | None, *, new: bool, before: Entry | None = None) -> bool:
        """Add, replace or remove an entry."""
        if (name in self._entries) == new or (before is not None and self._entries[name] != before):
            return False
        if entry is None:
            del self._entries[name]
        else:
            self._entries[name] = entry
        self._has_changed = True
        return True

    async def read_if_changed(self) -> Mapping[str, Entry] | None:
        """Return all entries if they have changed since the last call, else None."""
        has_changed, self._has_changed = self._has_changed, False
        return dict(self._entries) if has_changed else None

    async def close(self) -> None:
        """Do nothing: there are no connections."""


class MemoryKeyStore(MemoryStore[RuntimeKey]):
    """Run-time keys of one process, which are lost when the process ends."""

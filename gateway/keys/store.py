"""The interface of a key store, and the store of a process that has neither a state folder nor Redis.

`redis_store.py` shares keys among gateways. `file_store.py` keeps those of a gateway without Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.config.key import KeyConfig


class RuntimeKey(msgspec.Struct, frozen=True):
    """A key that was created at run time. The key itself is never stored, only its hash in `entry`.

    `shown` is the beginning and end of the key, by which operators recognize it. `created` is a Unix time in seconds.
    """

    entry: KeyConfig
    shown: str
    created: float


class KeyStore(Protocol):
    """Stores run-time keys by name."""

    is_volatile: bool
    """Whether the keys are lost when the process ends."""

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add a new key, replace a known key, or remove it if `key` is None.

        Return False if the name of a new key is taken, or if the key to replace or remove does not exist. Raise
        StoreUnavailableError if the store fails.
        """
        ...

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """Return all keys, or None if they are unchanged. Raise StoreUnavailableError if the store fails."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class MemoryKeyStore:
    """Keys of one process, lost when it ends."""

    is_volatile = True

    def __init__(self) -> None:
        self._keys: dict[str, RuntimeKey] = {}
        self._has_changed = False

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add, replace or remove a key."""
        if (name in self._keys) == new:
            return False
        if key is None:
            del self._keys[name]
        else:
            self._keys[name] = key
        self._has_changed = True
        return True

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """Return all keys after a change, else None."""
        has_changed, self._has_changed = self._has_changed, False
        return dict(self._keys) if has_changed else None

    async def close(self) -> None:
        """Do nothing: there are no connections."""

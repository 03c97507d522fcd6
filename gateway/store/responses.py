"""The interface of stores for responses of the Responses API, and a store in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

OVERHEAD_BYTES = 512
"""Memory of one record besides its data, counted so that many small records are limited too."""


class Bounds(NamedTuple):
    """The time for which a record is kept, and the maximum size of all records together."""

    ttl_s: float
    max_bytes: int


class ResponseStore(Protocol):
    """Stores records under the names of their owners. No owner can see or replace the records of another."""

    async def check(self) -> None:
        """Raise StoreUnavailableError if the store cannot be used now."""
        ...

    async def load(self, owner: str, id: str) -> bytes | None:
        """Return a record, or None if it is unknown or expired.

        Raise StoreUnavailableError if the store cannot be used.
        """
        ...

    async def save(self, owner: str, id: str, record: bytes, bounds: Bounds) -> None:
        """Store a record, and delete the oldest ones if this is needed to make room for it.

        Raise StoreUnavailableError if the store cannot be used.
        """
        ...

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a record. Return False if it is unknown or expired.

        Raise StoreUnavailableError if the store cannot be used.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class MemoryResponses:
    """Records in the memory of this process."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._records: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._size = 0

    async def check(self) -> None:
        """Do nothing: memory is always available."""

    async def load(self, owner: str, id: str) -> bytes | None:
        """Return a record, or None if it is unknown or expired."""
        expires, record = self._records.get((owner, id), (0.0, b""))
        if record and expires <= self._now():
            self._drop((owner, id))
            return None
        return record or None

    async def save(self, owner: str, id: str, record: bytes, bounds: Bounds) -> None:
        """Store a record, and delete the oldest ones if this is needed to make room for it."""
        now = self._now()
        self._drop((owner, id))
        size = len(record) + OVERHEAD_BYTES
        while self._records:
            oldest = next(iter(self._records))
            if self._size + size <= bounds.max_bytes and self._records[oldest][0] > now:
                break
            self._drop(oldest)
        self._records[owner, id] = now + bounds.ttl_s, record
        self._size += size

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a record. Return False if it is unknown or expired."""
        is_known = await self.load(owner, id) is not None
        self._drop((owner, id))
        return is_known

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _drop(self, name: tuple[str, str]) -> None:
        found = self._records.pop(name, None)
        if found is not None:
            self._size -= len(found[1]) + OVERHEAD_BYTES

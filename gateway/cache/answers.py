"""The cached answers of one process: looked up in the store, and made once for equal requests that arrive together.

With a store that several processes share, a flight also holds the lease of its key (gateway/cache/leases.py).

    look_up     returns a cached answer, or makes the call the leader of the flight of its key
    Flight      a request in progress. Calls with the same key wait for its answer instead of sending the request again
    save        stores the whole answer of a call

If the leader fails, or if its answer cannot be cached, the calls that wait for it send their own requests. If its caller
disconnects, one of them becomes the next leader. The same happens if its caller delays the answer by MAX_CALLER_DELAY_S: an answer is
read only as fast as its caller reads it. If the caller of the next leader is slow too, the calls that still wait send their own
requests. A store that fails or is slow counts as empty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from gateway.cache.caller_delay import CallerDelay
from gateway.cache.control import CacheControl
from gateway.cache.entry import Entry, read_entry, write_entry
from gateway.cache.guard import StoreGuard
from gateway.cache.leases import MAX_CALLER_DELAY_S, Lease, Leases
from gateway.config.cache import CacheBounds
from gateway.store.cached_answers import RedisAnswers
from gateway.store.errors import StoreUnavailableError
from gateway.store.responses import Bounds, ResponseStore

LOOKUP_TIMEOUT_S = 0.25
"""Time after which a lookup counts as a miss."""
SAVE_TIMEOUT_S = 1.0
"""Maximum time for storing one answer."""
ENTRIES_AT_LEAST = 8
"""Minimum number of answers for which there is room; the maximum size of an answer follows from it."""
MIN_CHECK_INTERVAL_S = 0.1
"""Minimum time between two checks of this delay."""
MAX_SLOW_LEADERS = 2
"""Number of leaders with slow callers after which a call waits no longer."""


class Flight:
    """A request whose answer other calls with the same key wait for."""

    def __init__(self, flights: dict[str, Flight], key: str) -> None:
        self._flights = flights
        self._key = key
        self._ended = asyncio.Event()
        self.entry: Entry | None = None
        self.is_abandoned = False
        """Whether the caller of the leader disconnected, so that another call has to send the request."""
        self.is_slow = False
        """Whether the flight ended because the caller of the leader reads slowly."""
        self.is_stored = False
        """Whether the store has the answer."""
        self.lease: Lease | None = None
        self._caller_delay: CallerDelay | None = None
        self._timer: asyncio.TimerHandle | None = None
        flights[key] = self

    def follow(self, caller_delay: CallerDelay) -> None:
        """End the flight if the caller of the leader delays the answer too long while other calls wait."""
        self._caller_delay = caller_delay
        if self.lease is not None:
            self.lease.caller_delay = caller_delay

    def answer(self, entry: Entry) -> None:
        """Give the answer to the calls that wait, and to those that arrive before the end of the flight."""
        self.entry = entry
        self._ended.set()

    def end(self, *, is_abandoned: bool = False) -> None:
        """End the flight. If there is no answer, the calls that wait send their own requests. A flight ends only once."""
        if self._flights.get(self._key) is self:
            del self._flights[self._key]
            self.is_abandoned = is_abandoned and self.entry is None
            self._ended.set()
        if self.lease is not None:
            self.lease.release(has_failed=not (self.is_stored or is_abandoned or self.is_slow))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the flight. Return False if it takes too long."""
        if self._timer is None:
            self._check_delivery()
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def _check_delivery(self) -> None:
        """End the flight if the caller of its leader has delayed the answer too long; otherwise check again later."""
        self._timer = None
        if self._ended.is_set():
            return
        left = MAX_CALLER_DELAY_S - (self._caller_delay.seconds if self._caller_delay is not None else 0.0)
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(max(left, MIN_CHECK_INTERVAL_S), self._check_delivery)
        else:
            self.is_slow = True
            self.end()


class Lookup(NamedTuple):
    """The result of a lookup: a cached answer with its age in seconds, or the flight that the call leads, or neither."""

    entry: Entry | None = None
    age_s: float = 0.0
    flight: Flight | None = None
    waited_s: float = 0.0
    """The time for which the call waited for another call."""


class AnswerCache:
    """The cache of one process, which outlives a reload."""

    def __init__(self, store: ResponseStore, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns the Unix time."""
        self._store = store
        self._clock = clock
        self._flights: dict[str, Flight] = {}
        self._guard = StoreGuard()
        self._leases = Leases(store, self._guard) if isinstance(store, RedisAnswers) else None

    async def look_up(self, key: str, ttl_s: float, control: CacheControl, timeout_s: float) -> Lookup:
        """Look up the answer of a key that is not older than the caller accepts. Wait at most `timeout_s` for other calls.

        The caller of this method must end the flight that it gets.
        """
        began, waited_s, slow = time.monotonic(), 0.0, 0
        max_age_s = min(ttl_s, control.max_age_s)
        while (flight := self._flights.get(key)) is not None:
            if not await flight.wait(max(0.0, timeout_s - waited_s)):
                return Lookup(waited_s=time.monotonic() - began)
            waited_s = time.monotonic() - began
            slow += flight.is_slow
            if not flight.is_abandoned and not (flight.is_slow and slow < MAX_SLOW_LEADERS):
                age_s = self._age_s(flight.entry)
                return Lookup(flight.entry if age_s <= max_age_s else None, age_s, waited_s=waited_s)
        found = await self._begin(key, max_age_s, timeout_s - waited_s)
        return found._replace(waited_s=waited_s + found.waited_s)

    async def _begin(self, key: str, max_age_s: float, timeout_s: float) -> Lookup:
        """Return the stored answer or, if there is none, make the call the leader of a flight. First wait for other processes."""
        flight = Flight(self._flights, key)
        try:
            record = await self._load(key)
            entry = read_entry(record) if record is not None else None
            if entry is None or self._age_s(entry) > max_age_s:
                if self._leases is None:
                    return Lookup(flight=flight)
                return await self._lead(self._leases, flight, key, record, max_age_s, timeout_s)
        except BaseException:
            flight.end(is_abandoned=True)
            raise
        flight.answer(entry)
        flight.end()
        return Lookup(entry, self._age_s(entry))

    async def _lead(
        self, leases: Leases, flight: Flight, key: str, record: bytes | None, max_age_s: float, timeout_s: float
    ) -> Lookup:
        """Take the lease of a key for a flight, or return the answer of its holder. `record` is a stored answer that is too old."""
        began = time.monotonic()
        led = await leases.lead(key, record, lambda entry: self._age_s(entry) <= max_age_s, timeout_s)
        waited_s = time.monotonic() - began if led.has_waited else 0.0
        if led.lease is not None or led.is_alone or (led.entry is None and not led.has_waited):
            flight.lease = led.lease
            return Lookup(flight=flight, waited_s=waited_s)
        if led.entry is not None:
            flight.answer(led.entry)
        flight.end(is_abandoned=led.is_late)  # if the wait was too long for this call, another call may have more time
        return Lookup(led.entry, self._age_s(led.entry), waited_s=waited_s)

    async def find(self, key: str, ttl_s: float, control: CacheControl) -> Lookup:
        """Return the stored answer of a key if the caller accepts it. Neither wait for another call nor lead a flight."""
        record = await self._load(key)
        entry = read_entry(record) if record is not None else None
        age_s = self._age_s(entry)
        return Lookup(entry, age_s) if entry is not None and age_s <= min(ttl_s, control.max_age_s) else Lookup()

    async def save(self, key: str, entry: Entry, ttl_s: float, bounds: CacheBounds) -> bool:
        """Store an answer. Return False if the store fails or is paused."""
        record, limits = write_entry(entry), Bounds(ttl_s, bounds.max_bytes)
        try:
            await self._guard.run(SAVE_TIMEOUT_S, lambda: self._store.save("", key, record, limits))
        except StoreUnavailableError:
            return False
        return True

    async def forget(self, key: str) -> None:
        """Delete an answer that cannot be used."""
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                await self._store.delete("", key)
        except (StoreUnavailableError, TimeoutError):
            pass  # the answer expires

    def now(self) -> float:
        """Return the Unix time."""
        return self._clock()

    async def close(self) -> None:
        """Close the connections of the store."""
        if self._leases is not None:
            await self._leases.close()
        await self._store.close()

    async def _load(self, key: str) -> bytes | None:
        try:
            return await self._guard.run(LOOKUP_TIMEOUT_S, lambda: self._store.load("", key))
        except StoreUnavailableError:
            return None

    def _age_s(self, entry: Entry | None) -> float:
        return max(0.0, self._clock() - entry.stored_at) if entry is not None else 0.0


def max_answer_bytes(bounds: CacheBounds) -> int:
    """Return the maximum size of one cached answer."""
    return min(bounds.max_answer_bytes, bounds.max_bytes // ENTRIES_AT_LEAST)

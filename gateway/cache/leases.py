"""One request for equal calls in flight in several processes, by means of leases in their common store.

The process that holds the lease of a key sends the request, and renews the lease while the request runs. The other processes wait
until the lease ends, and then find the answer in the store. If the store has none, the next process to ask takes the lease; but if
the holder reported that it has no answer, all waiting processes send their own requests. A process also sends its own request if the
store is unavailable, or after it has waited for MAX_HOLDERS holders.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gateway.cache.caller_delay import CallerDelay
from gateway.cache.entry import Entry, read_entry
from gateway.cache.guard import StoreGuard
from gateway.store.cached_answers import FAILED, Lead, RedisAnswers
from gateway.store.errors import StoreUnavailableError

LEASE_S = 3.0
"""Time after which the lease of a process that died ends."""
RENEWAL_S = 1.0
FAILED_S = 0.5
"""Time for which a holder without an answer is remembered, so that all processes that wait see it."""
WATCH_INTERVAL_S = 0.05
"""Time between two looks at the leases that calls of this process wait for."""
MAX_HOLDERS = 2
"""Number of holders for which a call waits."""
COMMAND_TIMEOUT_S = 0.25
MAX_TIMEOUTS = 2
"""Number of timeouts in a row after which the store counts as unavailable. A single one may occur because this process is busy."""
MAX_CALLER_DELAY_S = 1.0
"""Time by which the caller of a holder may delay the answer before the lease ends."""


class Led(NamedTuple):
    """An answer, or the lease that the call now holds, or neither.

    `is_late`: the call has waited as long as it may. `is_alone`: no other process is known, because the store is unavailable.
    """

    entry: Entry | None = None
    lease: Lease | None = None
    has_waited: bool = False
    is_late: bool = False
    is_alone: bool = False


class Lease:
    """A lease that this process holds."""

    def __init__(self, leases: Leases, key: str, token: bytes) -> None:
        self._leases = leases
        self._key = key
        self._token = token
        self.caller_delay: CallerDelay | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_released = False
        self._arm()

    def release(self, *, has_failed: bool = False) -> None:
        """End the lease in the background. If it `has_failed`, the processes that wait send their own requests. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_released:
            self._is_released = True
            self._leases.run(self._leases.store.release(self._key, self._token, int(FAILED_S * 1000) if has_failed else 0))

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RENEWAL_S, self._renew)

    def _renew(self) -> None:
        if self.caller_delay is not None and self.caller_delay.seconds >= MAX_CALLER_DELAY_S:
            self.release()  # another process sends the request for those that wait
        else:
            self._timer = None
            self._leases.run(self._renew_in_store())

    async def _renew_in_store(self) -> None:
        is_held = True
        with contextlib.suppress(StoreUnavailableError):  # the next renewal takes the lease again if it has expired
            is_held = await self._leases.store.renew(self._key, self._token, int(LEASE_S * 1000))
        if is_held and not self._is_released:
            self._arm()


class Leases:
    """The leases of one process."""

    def __init__(self, store: RedisAnswers, guard: StoreGuard) -> None:
        self.store = store
        self._guard = guard
        self._name = os.urandom(8).hex()
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = _Watch(store)

    async def lead(self, key: str, unwanted: bytes | None, is_accepted: Callable[[Entry], bool], timeout_s: float) -> Led:
        """Take the lease of a key, or wait at most `timeout_s` for the answer of its holder.

        `unwanted` is a stored answer that the call does not accept. If the store fails, return neither an answer nor a lease.
        """
        token = f"{self._name}:{next(self._numbers)}".encode()
        ends_at = time.monotonic() + timeout_s
        digest = _sha1(unwanted)
        holders: set[bytes] = set()
        while True:
            try:
                found = await self._lead_once(key, token, digest)
            except StoreUnavailableError:
                return Led(has_waited=bool(holders), is_alone=True)
            if found.record is not None:
                entry = read_entry(found.record)
                if entry is not None and is_accepted(entry):
                    return Led(entry, has_waited=bool(holders))
                if holders or digest == _sha1(found.record):
                    return Led(has_waited=bool(holders))
                digest = _sha1(found.record)
                continue
            if found.holder is None or found.holder == token:
                return Led(lease=Lease(self, key, token), has_waited=bool(holders))
            if found.holder.startswith(FAILED) or (found.holder not in holders and len(holders) == MAX_HOLDERS):
                return Led(has_waited=bool(holders))
            holders.add(found.holder)
            try:
                if not await self._watch.wait(key, found.holder, ends_at - time.monotonic()):
                    return Led(has_waited=True, is_late=True)
            except StoreUnavailableError:
                return Led(has_waited=True, is_alone=True)

    def run(self, command: Coroutine[Any, Any, Any]) -> None:
        """Run a command in the background. The lease expires if the command fails."""
        task = asyncio.get_running_loop().create_task(self._run(command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for the commands in the background."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=COMMAND_TIMEOUT_S)
        self._watch.close()

    async def _lead_once(self, key: str, token: bytes, digest: str) -> Lead:
        try:
            return await self._guard.run(COMMAND_TIMEOUT_S, lambda: self.store.lead(key, token, int(LEASE_S * 1000), digest))
        except asyncio.CancelledError:
            self.run(self.store.release(key, token))  # the command may have reached the store
            raise

    async def _run(self, command: Coroutine[Any, Any, Any]) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await command


class _Watch:
    """Looks at all leases that calls of this process wait for, with one command per interval."""

    def __init__(self, store: RedisAnswers) -> None:
        self._store = store
        self._waiting: dict[str, list[tuple[bytes, asyncio.Future[None]]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, key: str, holder: bytes, timeout_s: float) -> bool:
        """Wait until the lease of a key no longer belongs to `holder`. Return False if that takes too long.

        Raise StoreUnavailableError if the store fails.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (holder, ended)
        self._waiting.setdefault(key, []).append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await ended
        except TimeoutError:
            return False
        finally:
            self._waiting[key].remove(waiting)
            if not self._waiting[key]:
                del self._waiting[key]
        return True

    def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        timeouts = 0
        while self._waiting:
            await asyncio.sleep(WATCH_INTERVAL_S)
            keys = list(self._waiting)
            if not keys:
                return
            failure: StoreUnavailableError | None = None
            found: list[bytes | None] = [None] * len(keys)
            timeouts += 1
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    found = await self._store.holders(keys)
                timeouts = 0
            except StoreUnavailableError as error:
                failure = error
            except TimeoutError:
                if timeouts < MAX_TIMEOUTS:
                    continue
                failure = StoreUnavailableError("the commands took too long")
            for key, now in zip(keys, found, strict=True):
                for holder, ended in self._waiting.get(key, ()):
                    if ended.done():
                        continue
                    if failure is not None:
                        ended.set_exception(StoreUnavailableError(str(failure)))
                    elif now != holder:
                        ended.set_result(None)


def _sha1(record: bytes | None) -> str:
    return hashlib.sha1(record, usedforsecurity=False).hexdigest() if record is not None else ""

"""Marks of sent notifications, so that only one of the processes with the same store sends each notification.

Without Redis, marks are kept in memory. While Redis is unavailable, each process decides alone: a notification may be
repeated, but none is lost.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from redis.asyncio import Redis

TAG = "notify"
"""The hash tag of all marks."""
MAX_MARKS = 10_000
"""Maximum number of marks in memory. When this number is reached, expired marks are dropped first, then the oldest marks."""
_Reply = TypeVar("_Reply")


class _Mark(msgspec.Struct):
    """A mark that is known to this process, and whether this process set it."""

    until: float
    is_own: bool


class Marks:
    """The marks of one process. If `open_client` is given, the process shares them with other processes through Redis."""

    def __init__(self, open_client: Callable[[], Redis] | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._open = open_client
        self._client: Any = None
        self._now = now
        self._known: dict[str, _Mark] = {}

    async def claim(self, name: str, ttl_s: float) -> bool:
        """Set a mark for `ttl_s` seconds. Return False if a process has already set it."""
        now = self._now()
        known = self._known.get(name)
        if known is not None and now < known.until:
            return False
        reply = await self._ask(lambda client: client.set(_key(name), b"1", nx=True, px=max(1, round(ttl_s * 1000))), True)
        is_own = bool(reply)
        self._forget_some(now)
        self._known[name] = _Mark(now + ttl_s, is_own)
        return is_own

    async def renew(self, name: str, ttl_s: float) -> None:
        """Let a mark, which any process may have set, expire after `ttl_s` more seconds."""
        known = self._known.get(name)
        if known is not None:
            known.until = self._now() + ttl_s
        await self._ask(lambda client: client.pexpire(_key(name), max(1, round(ttl_s * 1000))), 0)

    async def release(self, name: str) -> bool:
        """Remove a mark. Return whether the mark existed: if several processes remove a mark, only the first gets True."""
        known = self._known.pop(name, None)
        is_own = known is not None and known.is_own
        return bool(await self._ask(lambda client: client.delete(_key(name)), is_own))

    async def stop(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, command: Callable[[Any], Awaitable[_Reply]], otherwise: _Reply) -> _Reply:
        """Return the reply of Redis, or `otherwise` if Redis is not configured or unavailable."""
        if self._open is None:
            return otherwise
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = self._open()
            return await command(self._client)
        except (RedisError, OSError, TimeoutError):
            return otherwise

    def _forget_some(self, now: float) -> None:
        if len(self._known) >= MAX_MARKS:
            self._known = {name: mark for name, mark in self._known.items() if now < mark.until}
            while len(self._known) >= MAX_MARKS:
                del self._known[next(iter(self._known))]


def _key(name: str) -> str:
    return f"lockgate:{{{TAG}}}:{name}"

"""The counters of every instance that shares a store, as one.

Each instance adds what it counted since the last time to totals in Redis, once a second and only when something changed: an instance that
ends leaves its counts behind, and no total goes down. Every addition has a number, and a number is added once, so that an answer which
was lost doubles nothing. A Redis that forgot the instance (emptied, failed over) is told everything anew. Gauges are kept by instance,
and of those that are older than STALE seconds none is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.metrics.registry import Metrics
from gateway.metrics.series import bounded
from gateway.metrics.snapshot import Snapshot, merge, only_counts, only_gauges
from gateway.metrics.table import COUNTERS, SOURCES, Labels
from gateway.store.redis_client import open_client

if TYPE_CHECKING:
    from redis.asyncio import Redis

PUBLISH_EVERY = 1.0
REPEAT_AFTER = 5
"""Rounds after which gauges are sent although no counter changed."""
STALE = 15
MOST_FIELDS = 500
"""Of one script: Redis does nothing else meanwhile."""
_KEYS = tuple(f"lockgate:{{metrics}}:{name}" for name in ("totals", "numbers", "gauges"))

_PUBLISH = """
local number = tonumber(ARGV[2])
local seen = tonumber(redis.call('HGET', KEYS[2], ARGV[1]))
if number > 1 and not seen then return 'unknown' end
local now = tonumber(redis.call('TIME')[1])
if not seen or number > seen then
  for i = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', KEYS[2], ARGV[1], number)
end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%d %s', now, ARGV[3]))
if number % 100 == 1 then
  local gauges = redis.call('HGETALL', KEYS[3])
  for i = 1, #gauges, 2 do
    if now - tonumber(string.match(gauges[i + 1], '^%d+')) > 86400 then
      redis.call('HDEL', KEYS[2], gauges[i])
      redis.call('HDEL', KEYS[3], gauges[i])
    end
  end
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, 2592000) end
end
return 'added'
"""

_Gauges = dict[str, list[tuple[Labels, list[int]]]]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Gauges).decode


class FleetError(Exception):
    """The store cannot be asked."""


class Fleet:
    """This instance's part in the totals, and the way to read them."""

    def __init__(self, client: Redis, metrics: Metrics, every: float = PUBLISH_EVERY) -> None:
        self._client: Any = client  # replies are bytes, whatever their annotations say
        self._metrics = metrics
        self._every = every
        self._name = os.urandom(8).hex()
        self._number = 0
        self._sent: dict[str, int] = {}
        self._told: Snapshot = {}
        """What of ours the store has for sure; rows that are as they were then are not looked at again."""
        self._quiet = 0
        self._pending: tuple[list[tuple[str, int]], dict[str, int]] | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Publish from now on."""
        self._task = asyncio.create_task(self._go_on(), name="metrics")

    async def stop(self, within: float = 2.0) -> None:
        """Publish what is left within so many seconds, and let go of the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(FleetError, TimeoutError):
            async with asyncio.timeout(within):
                await self.publish(leave=True)
        await self._client.aclose()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            with contextlib.suppress(FleetError):  # what was not sent is sent with the next
                await self.publish()

    async def publish(self, *, leave: bool = False) -> None:
        """Add what is new. FleetError when the store cannot be asked; nothing is lost by that."""
        from redis.exceptions import RedisError

        async with self._lock:
            try:
                await self._publish(leave)
            except (RedisError, OSError, ValueError) as error:
                raise FleetError(type(error).__name__) from error

    async def _publish(self, leave: bool) -> None:
        whole = self._metrics.whole()
        gauges = _encode({} if leave else {name: list(rows.items()) for name, rows in only_gauges(whole).items()})
        present = only_counts(whole)
        counts = {
            _field(name, labels, at): value
            for name, rows in present.items()
            for labels, cells in rows.items()
            if cells != self._told.get(name, {}).get(labels)
            for at, value in enumerate(cells)
            if value
        }
        new = [(field, value) for field, value in counts.items() if value > self._sent.get(field, 0)]
        self._quiet += 1
        if not new and self._pending is None and not leave and self._quiet < REPEAT_AFTER:
            return
        self._quiet = 0
        if self._pending is not None and not await self._send(self._pending[0], gauges):
            await self._publish(leave)
            return
        for begin in range(0, max(1, len(new)), MOST_FIELDS):
            part = [(field, value) for field, value in new[begin : begin + MOST_FIELDS] if value > self._sent.get(field, 0)]
            if not await self._send(part, gauges):
                await self._publish(leave)
                return
        self._told = present

    async def _send(self, part: list[tuple[str, int]], gauges: bytes) -> bool:
        """One addition; until it is known to be made it is repeated as it is. False: the store does not know us any more."""
        if self._pending is None:
            self._number += 1
            self._pending = (part, {field: value - self._sent.get(field, 0) for field, value in part})
        sent, additions = self._pending
        arguments: list[Any] = [self._name, self._number, gauges]
        for field, value in additions.items():
            arguments += [field, value]
        answer = await self._client.eval(_PUBLISH, len(_KEYS), *_KEYS, *arguments)
        self._pending = None
        if answer == b"unknown":
            self._name, self._number, self._sent, self._told = os.urandom(8).hex(), 0, {}, {}
            return False
        self._sent.update(sent)
        return True

    async def whole(self) -> Snapshot:
        """All instances together, this one as it is now. FleetError when the store cannot be asked."""
        from redis.exceptions import RedisError

        await self.publish()
        try:
            totals, gauges, (now, _) = await asyncio.gather(
                self._client.hgetall(_KEYS[0]),
                self._client.hgetall(_KEYS[2]),
                self._client.time(),
            )
        except (RedisError, OSError, ValueError) as error:
            raise FleetError(type(error).__name__) from error
        parts = [_of_totals(totals)]
        for value in gauges.values():
            at, _, text = value.partition(b" ")
            if now - int(at) <= STALE:
                parts.append({name: dict(rows) for name, rows in _decode(text).items()})
        return bounded(merge(parts), self._metrics.max_series)


def fleet_of(config: Config, metrics: Metrics) -> Fleet | None:
    """The fleet of a configuration; None when its counters live in one process."""
    if config.store.startswith("memory:"):
        return None
    return Fleet(open_client(store_address(config), "metrics"), metrics)


def _field(name: str, labels: Labels, at: int) -> str:
    return "\0".join((name, *labels, str(at)))


def _of_totals(totals: dict[bytes, bytes]) -> Snapshot:
    found: Snapshot = {}
    for field, value in totals.items():
        name, *labels, at = field.decode().split("\0")
        width = len(SOURCES[name].buckets) + 2 if name in SOURCES else 1
        if (name in SOURCES or name in COUNTERS) and int(at) < width:  # other versions of the gateway may have other names
            cells = found.setdefault(name, {}).setdefault(tuple(labels), [0] * width)
            cells[int(at)] = int(value)
    return found

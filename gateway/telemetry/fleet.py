"""The metrics of all instances that share a Redis store, merged.

Once a second, if its counts have changed, each instance adds the new counts to totals in Redis. The counts of an instance that
ends stay in the totals, which therefore never decrease. Every addition is numbered and applied once, even if it is
repeated after a lost reply. If Redis lost its data (flush, failover, a key that another program has overwritten), the
instance publishes all its counts again. Gauges are kept by instance and ignored after MAX_GAUGE_AGE_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.metrics.declarations import COUNTERS, SOURCES, Labels
from gateway.metrics.registry import Metrics
from gateway.metrics.series import bounded
from gateway.metrics.snapshot import Snapshot, merge, only_counts, only_gauges
from gateway.store.redis_client import open_client
from gateway.upstream.end_tasks import end_tasks

if TYPE_CHECKING:
    from redis.asyncio import Redis

PUBLISH_INTERVAL_S = 1.0
MAX_QUIET_ROUNDS = 5
"""Number of rounds without a changed counter after which gauges are published."""
MAX_GAUGE_AGE_S = 15
# a script blocks Redis while it runs
MAX_FIELDS_PER_SCRIPT = 500
_KEYS = tuple(f"lockgate:{{metrics}}:{name}" for name in ("totals", "numbers", "gauges"))

_PUBLISH = """
-- Another program may have given a key a value of another type. Without the numbers, each instance publishes everything again, under
-- another name.
local function is_damaged(key)
  local reply = redis.pcall('HGET', key, '')
  return type(reply) == 'table' and string.find(reply.err or '', 'WRONGTYPE', 1, true)
end
if is_damaged(KEYS[1]) or is_damaged(KEYS[2]) then redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) end
if is_damaged(KEYS[3]) then redis.call('DEL', KEYS[3]) end
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
    """The store is unavailable."""


class Fleet:
    """Publishes the metrics of this instance and reads those of all instances."""

    def __init__(self, client: Redis, metrics: Metrics, interval_s: float = PUBLISH_INTERVAL_S) -> None:
        self._client: Any = client  # replies are bytes; the annotations of redis-py declare str
        self._metrics = metrics
        self._interval_s = interval_s
        self._name = os.urandom(8).hex()
        self._number = 0
        self._sent: dict[str, int] = {}
        self._published: Snapshot = {}
        """Counts that the store has acknowledged. Rows that have not changed since are skipped."""
        self._quiet_rounds = 0
        self._pending: tuple[list[tuple[str, int]], dict[str, int]] | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.refresh: Callable[[], Awaitable[None]] | None = None
        """Refreshes gauges that are read from the store, before each regular publication."""

    async def start(self) -> None:
        """Publish every `interval_s` seconds from now on."""
        self._task = asyncio.create_task(self._publish_regularly(), name="metrics")

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Publish the last counts, for at most `timeout_s` seconds, and close the connection."""
        await end_tasks([self._task])
        with contextlib.suppress(FleetError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.publish(leave=True)
        await self._client.aclose()

    async def _publish_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if self.refresh is not None:
                await self.refresh()
            with contextlib.suppress(FleetError):  # the next round sends the counts that this one could not send
                await self.publish()

    async def publish(self, *, leave: bool = False) -> None:
        """Publish new counts and the gauges; with `leave`, remove the gauges.

        Raise FleetError if the store is unavailable; the counts are published next time.
        """
        from redis.exceptions import RedisError

        async with self._lock:
            try:
                await self._publish(leave)
            except (RedisError, OSError, ValueError) as error:
                raise FleetError(type(error).__name__) from error

    async def _publish(self, leave: bool) -> None:
        snapshot = self._metrics.merged_snapshot()
        gauges = _encode({} if leave else {name: list(rows.items()) for name, rows in only_gauges(snapshot).items()})
        present = only_counts(snapshot)
        counts = {
            _field(name, labels, index): value
            for name, rows in present.items()
            for labels, cells in rows.items()
            if cells != self._published.get(name, {}).get(labels)
            for index, value in enumerate(cells)
            if value
        }
        new = [(field, value) for field, value in counts.items() if value > self._sent.get(field, 0)]
        self._quiet_rounds += 1
        if not new and self._pending is None and not leave and self._quiet_rounds < MAX_QUIET_ROUNDS:
            return
        self._quiet_rounds = 0
        if self._pending is not None and not await self._send(self._pending[0], gauges):
            await self._publish(leave)
            return
        for start in range(0, max(1, len(new)), MAX_FIELDS_PER_SCRIPT):
            candidates = new[start : start + MAX_FIELDS_PER_SCRIPT]
            part = [(field, value) for field, value in candidates if value > self._sent.get(field, 0)]
            if not await self._send(part, gauges):
                await self._publish(leave)
                return
        self._published = present

    async def _send(self, part: list[tuple[str, int]], gauges: bytes) -> bool:
        """Send one addition: `part`, or the previous addition unchanged if Redis did not acknowledge it.

        Return False if the store no longer has this instance, so everything must be published again.
        """
        if self._pending is None:
            self._number += 1
            self._pending = (part, {field: value - self._sent.get(field, 0) for field, value in part})
        sent, additions = self._pending
        arguments: list[Any] = [self._name, self._number, gauges]
        for field, value in additions.items():
            arguments += [field, value]
        reply = await self._client.eval(_PUBLISH, len(_KEYS), *_KEYS, *arguments)
        self._pending = None
        if reply == b"unknown":
            self._name, self._number, self._sent, self._published = os.urandom(8).hex(), 0, {}, {}
            return False
        self._sent.update(sent)
        return True

    async def merged_snapshot(self) -> Snapshot:
        """Return the merged series of all instances. Raise FleetError if the store is unavailable."""
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
        parts = [_read_totals(totals)]
        for value in gauges.values():
            written, _, text = value.partition(b" ")
            if now - int(written) <= MAX_GAUGE_AGE_S:
                parts.append({name: dict(rows) for name, rows in _decode(text).items()})
        return bounded(merge(parts), self._metrics.max_series)


def fleet_of(config: Config, metrics: Metrics) -> Fleet | None:
    """Return the fleet of a configuration; None if its store is memory."""
    if config.store.startswith("memory:"):
        return None
    return Fleet(open_client(store_address(config), "metrics"), metrics)


def _field(name: str, labels: Labels, index: int) -> str:
    return "\0".join((name, *labels, str(index)))


def _read_totals(totals: dict[bytes, bytes]) -> Snapshot:
    snapshot: Snapshot = {}
    for field, value in totals.items():
        name, *labels, index = field.decode().split("\0")
        width = len(SOURCES[name].buckets) + 2 if name in SOURCES else 1
        if (name in SOURCES or name in COUNTERS) and int(index) < width:  # other versions may have other metrics
            cells = snapshot.setdefault(name, {}).setdefault(tuple(labels), [0] * width)
            cells[int(index)] = int(value)
    return snapshot

"""Cooldowns that several processes share through Redis.

About once a second, and soon after a change, each process runs one command. It publishes which cooldowns of the process have
started or have ended early, and reads the cooldowns of all other processes. Each process decides on its own cooldowns and also
applies those of the other processes, timed by the clock of Redis. A new process starts with the stored cooldowns. While Redis
is unavailable, each process uses only its own observations.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from gateway.targets.cooldown import Reason
from gateway.targets.registry import TargetRegistry
from gateway.upstream.end_tasks import end_tasks

if TYPE_CHECKING:
    from redis.asyncio import Redis

Report = Callable[[str, bool], None]
"""Called with a line for the operator, and whether the store is unavailable."""

KEY = "lockgate:health"
POLL_INTERVAL_S = 1.0
ENDED = "over"
"""Stored instead of a reason when a cooldown ends early."""
ENDED_RECORD_S = 60.0
"""Time for which an early end is stored, so that every process reads it."""
MAX_UNSENT = 1000
"""Maximum number of changes that are kept while Redis is unavailable."""

SCRIPT = """
-- KEYS: a hash of target and credential to "until reason instance"; an instance is one run of a process. ARGV: this instance, then field,
-- milliseconds and reason of each change. The longer cooldown wins, except that an early end and what follows it always replace the
-- field. Reply: field, milliseconds left and "until reason instance" of every entry.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV, 3 do
  local field, span = ARGV[i], tonumber(ARGV[i + 1])
  local known = redis.call('HGET', KEYS[1], field)
  if not known or ARGV[i + 2] == 'over' or string.find(known, ' over ', 1, true)
    or (tonumber(string.match(known, '^%d+')) or 0) < now + span then
    redis.call('HSET', KEYS[1], field, string.format('%.0f %s %s', now + span, ARGV[i + 2], ARGV[1]))
  end
end
if #ARGV > 1 then redis.call('EXPIRE', KEYS[1], 86400) end
local all, out = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local ends = tonumber(string.match(all[i + 1], '^%d+')) or 0
  if ends <= now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    out[#out + 1] = all[i]
    out[#out + 1] = ends - now
    out[#out + 1] = all[i + 1]
  end
end
return out
"""


class SharedCooldowns:
    """Exchanges the cooldowns of one process with those of all other processes that use the same store."""

    def __init__(
        self,
        registry: TargetRegistry,
        open_client: Callable[[], Redis],
        report: Report,
        interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        """`report` receives one line when the store becomes unavailable, and one when it is available again."""
        self._registry = registry
        self._open = open_client
        self._report = report
        self._interval_s = interval_s
        self._instance = os.urandom(6).hex()
        self._unsent: list[tuple[str, int, str]] = []
        self._last_read: dict[str, str] = {}
        self._has_news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._is_unavailable = False
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Apply the cooldowns in the store, then exchange changes in the background."""
        self._registry.publish = self._publish
        await self._exchange()
        self._task = asyncio.create_task(self._exchange_repeatedly(), name="shared health")

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Exchange the last changes, for at most `timeout_s` seconds, and close the connection."""
        self._stopping.set()
        self._has_news.set()
        if self._task is not None:
            # The task is not cancelled at once, because redis-py may mistake the cancellation for a lost connection and retry.
            await asyncio.wait([self._task], timeout=timeout_s)
            await end_tasks([self._task])
        if self._client is not None:
            await self._client.aclose()

    def _publish(self, name: str, credential: str | None, seconds: float, reason: Reason) -> None:
        if len(self._unsent) < MAX_UNSENT:
            field, is_ended = f"{name}\0{credential}" if credential else name, seconds <= 0
            self._unsent.append((field, int((ENDED_RECORD_S if is_ended else seconds) * 1000), ENDED if is_ended else reason))
            self._has_news.set()

    async def _exchange_repeatedly(self) -> None:
        while not self._stopping.is_set():
            await self._wait(self._has_news)
            if self._is_unavailable:
                await self._wait(self._stopping)  # try once per interval, but do not delay a shutdown
            self._has_news.clear()
            await self._exchange()

    async def _wait(self, event: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await event.wait()

    async def _exchange(self) -> None:
        """Send the changes of this process and apply the changes of other processes."""
        from redis.exceptions import RedisError

        unsent, self._unsent = self._unsent, []
        try:
            if self._client is None:
                self._client = self._open()
            arguments = [self._instance, *(part for change in unsent for part in change)]
            entries: list[Any] = await self._client.eval(SCRIPT, 1, KEY, *arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._unsent = (unsent + self._unsent)[:MAX_UNSENT]
            self._set_unavailable(f"store: cooldowns are not shared with other instances ({_reason(error)})", unavailable=True)
            return
        self._set_unavailable("store: cooldowns are shared again", unavailable=False)
        self._apply(entries)

    def _set_unavailable(self, line: str, *, unavailable: bool) -> None:
        if unavailable != self._is_unavailable:
            self._is_unavailable = unavailable
            self._report(line, unavailable)

    def _apply(self, entries: list[Any]) -> None:
        """Apply the entries of other processes that are new since the last exchange."""
        read: dict[str, str] = {}
        for index in range(0, len(entries), 3):
            field, text = entries[index].decode("utf-8", "replace"), entries[index + 2].decode("utf-8", "replace")
            seconds_left = entries[index + 1] / 1000
            read[field] = text
            _, reason, instance = (*text.split(" "), "", "")[:3]
            if instance == self._instance or self._last_read.get(field) == text:
                continue
            name, _, credential = field.partition("\0")
            if reason == ENDED:
                self._registry.end_remote(name, credential or None, ENDED_RECORD_S - seconds_left)
            elif reason in get_args(Reason):
                self._registry.apply_remote(name, credential or None, seconds_left, reason)
        self._last_read = read


def _reason(error: Exception) -> str:
    """Return the message of Redis if Redis answered, else the type of the error."""
    from redis.exceptions import ResponseError

    return str(error)[:200] if isinstance(error, ResponseError) else type(error).__name__

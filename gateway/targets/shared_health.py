"""Cooldowns that several processes share through the store: told as they begin and as they end early, and asked for about once a
second, in one command.

Each process decides for itself and takes over what others found, by the store's clock; a process that starts anew finds what it knew.
While the store is away everybody goes by what they see themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from gateway.store.outage_log import OutageReporter
from gateway.targets.cooldown import Reason
from gateway.targets.registry import TargetRegistry

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEY = "lockgate:health"
EVERY = 1.0
"""Seconds between two looks at the store."""
OVER = "over"
OVER_FOR = 60.0
"""Seconds that an end before its time is remembered, for all to hear of it."""
MOST_TOLD = 1000
"""Cooldowns that wait for the store to come back."""

SCRIPT = """
-- KEYS: a hash of target and credential to "until reason instance". ARGV: this instance, then field, milliseconds and reason of each
-- cooldown to tell. The later end wins, but for one that is over, which the latest word wins. Reply: field, milliseconds left and
-- "until reason instance" of all there is.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 2, #ARGV, 3 do
  local field, span = ARGV[at], tonumber(ARGV[at + 1])
  local known = redis.call('HGET', KEYS[1], field)
  if not known or ARGV[at + 2] == 'over' or string.find(known, ' over ', 1, true)
    or (tonumber(string.match(known, '^%d+')) or 0) < now + span then
    redis.call('HSET', KEYS[1], field, string.format('%.0f %s %s', now + span, ARGV[at + 2], ARGV[1]))
  end
end
if #ARGV > 1 then redis.call('EXPIRE', KEYS[1], 86400) end
local all, out = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #all, 2 do
  local ends = tonumber(string.match(all[at + 1], '^%d+')) or 0
  if ends <= now then
    redis.call('HDEL', KEYS[1], all[at])
  else
    out[#out + 1] = all[at]
    out[#out + 1] = ends - now
    out[#out + 1] = all[at + 1]
  end
end
return out
"""


class SharedCooldowns:
    """Joins one process's health with that of all others at the same store."""

    def __init__(self, health: TargetRegistry, open_client: Callable[[], Redis], say: OutageReporter, every: float = EVERY) -> None:
        """`say` gets one line when the store goes away, and one when it is back."""
        self._health = health
        self._open = open_client
        self._say = say
        self._every = every
        self._instance = os.urandom(6).hex()
        self._told: list[tuple[str, int, str]] = []
        self._heard: dict[str, str] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._away = False
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Take over what cools already, then go on in the background."""
        self._health.publish = self._tell
        await self._exchange()
        self._task = asyncio.create_task(self._go_on(), name="shared health")

    async def stop(self, within: float = 2.0) -> None:
        """Let go of the store; `within` are the seconds for the last exchange."""
        self._ended.set()
        self._news.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=within)  # not cancelled: redis-py may take that for a lost connection, and go on
            self._task.cancel()
        if self._client is not None:
            await self._client.aclose()

    def _tell(self, name: str, credential: str | None, seconds: float, reason: Reason) -> None:
        if len(self._told) < MOST_TOLD:
            field, over = f"{name}\0{credential}" if credential else name, seconds <= 0
            self._told.append((field, int((OVER_FOR if over else seconds) * 1000), OVER if over else reason))
            self._news.set()

    async def _go_on(self) -> None:
        while not self._ended.is_set():
            await self._wait(self._news)
            if self._away:
                await self._wait(self._ended)  # a store that is away is not asked again by every piece of news, nor holds up the end
            self._news.clear()
            await self._exchange()

    async def _wait(self, event: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._every):
                await event.wait()

    async def _exchange(self) -> None:
        """Tell what is new here, and hear what is new elsewhere."""
        from redis.exceptions import RedisError

        told, self._told = self._told, []
        try:
            if self._client is None:
                self._client = self._open()
            arguments = [self._instance, *(word for one in told for word in one)]
            found: list[Any] = await self._client.eval(SCRIPT, 1, KEY, *arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._told = (told + self._told)[:MOST_TOLD]
            self._turn(f"store: cooldowns are not shared with other instances ({_why(error)})", away=True)
            return
        self._turn("store: cooldowns are shared again", away=False)
        self._hear(found)

    def _turn(self, line: str, *, away: bool) -> None:
        if away != self._away:
            self._away = away
            self._say(line, away)

    def _hear(self, found: list[Any]) -> None:
        heard: dict[str, str] = {}
        for at in range(0, len(found), 3):
            field, text = found[at].decode("utf-8", "replace"), found[at + 2].decode("utf-8", "replace")
            heard[field] = text
            _, reason, instance = (*text.split(" "), "", "")[:3]
            if instance == self._instance or self._heard.get(field) == text:
                continue
            name, _, credential = field.partition("\0")
            if reason == OVER:
                self._health.end_remote(name, credential or None, OVER_FOR - found[at + 1] / 1000)
            elif reason in get_args(Reason):
                self._health.apply_remote(name, credential or None, found[at + 1] / 1000, reason)
        self._heard = heard


def _why(error: Exception) -> str:
    """The store's own words, where it answered."""
    from redis.exceptions import ResponseError

    return str(error)[:200] if isinstance(error, ResponseError) else type(error).__name__

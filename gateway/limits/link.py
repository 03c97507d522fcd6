"""The way to Redis: one connection, its deadline and its breaker. While it is open nothing waits for it; it comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from gateway.limits.resp import Done, RedisAddress, RespConnection, connect
from gateway.limits.scripts import SCRIPTS, digest

DEADLINE = 0.05
"""Seconds that one decision may take."""
CONNECT_DEADLINE = 1.0
RETRY = (0.05, 0.5)
"""Seconds between attempts to reach Redis again: the first, and the longest."""
OLDEST = (5, 0)
"""Scripts may only write after they asked for the time since this version."""
_SHA = {script: digest(script) for script in SCRIPTS}


class Link:
    """Runs scripts. `up` says whether Redis can be asked now; `changed(up)` is called when that changes."""

    def __init__(
        self, address: RedisAddress, changed: Callable[[bool], None], report: Callable[[str], None], deadline: float = DEADLINE
    ) -> None:
        self._address = address
        self._changed = changed
        self._report = report
        self._deadline = deadline
        self._connection: RespConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._said = ""
        self._generation = 0
        self.up = False
        self.errors: dict[str, int] = {}
        """Failures by kind."""
        self.commands = 0
        """Scripts run: one for all decisions of a tick."""

    @property
    def used(self) -> bool:
        """Whether this process asks the store at all: a supervisor leaves that to its workers."""
        return self._task is not None

    async def start(self) -> None:
        """Reach Redis, waiting for the first attempt only."""
        first = asyncio.Event()
        self._task = asyncio.create_task(self._stay_connected(first))
        await first.wait()

    async def stop(self) -> None:
        """Close the connection for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            self._connection.abort()
        self.up = False

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], done: Done) -> None:
        """Run a script within the deadline. `done` gets its reply once, or the exception that opened the breaker."""
        connection = self._connection
        if not self.up or connection is None:
            done(ConnectionError("Redis is out of reach"))
            return
        loop = asyncio.get_running_loop()
        state = [False, False]  # answered, its last chance has come

        def late() -> None:
            if state[0]:
                return
            if not state[1]:  # a loop that was busy may have the reply in its socket already: look once more
                state[1] = True
                loop.call_later(0.001, late)
                return
            state[0] = True
            self._fail("deadline", f"no answer within {self._deadline * 1000:g} ms")
            done(TimeoutError("Redis did not answer in time"))

        timer = loop.call_later(self._deadline, late)

        def answered(reply: Any) -> None:
            if state[0]:
                return
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self.count("noscript")
                connection.send(("EVAL", script, len(keys), *keys, *arguments), answered)
                return
            state[0] = True
            timer.cancel()
            if isinstance(reply, hiredis.ReplyError):
                self._fail(_kind_of(reply), str(reply)[:200])
            done(reply)

        self.commands += 1
        connection.send(("EVALSHA", _SHA[script], len(keys), *keys, *arguments), answered)

    def count(self, kind: str) -> None:
        """One more failure of a kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def _fail(self, kind: str, why: str) -> None:
        """Open the breaker: what was asked on this connection stays unanswered, and a new one is looked for."""
        self.count(kind)
        if self.up:
            self.up = False
            self._said = why
            self._changed(False)
            self._report(f"store: Redis at {self._address} is out of reach ({why}): limits follow their outage mode")
        if self._connection is not None:
            self._connection.abort()
        self._down.set()

    def _lost(self, generation: int) -> None:
        """A connection ended; an older one than the present says nothing."""
        if generation != self._generation:
            return
        self._connection = None
        if self.up:
            self._fail("connection", "the connection ended")
        self._down.set()

    async def _stay_connected(self, first: asyncio.Event) -> None:
        delay = RETRY[0]
        while True:
            self._down.clear()
            try:
                async with asyncio.timeout(CONNECT_DEADLINE):
                    await self._connect()
            except (OSError, TimeoutError, hiredis.ReplyError, ValueError) as error:
                self.count("connect")
                self._say(f"{error}" or type(error).__name__)
                if self._connection is not None:
                    self._connection.abort()
                first.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY[1])
                continue
            delay = RETRY[0]
            self.up = True
            self._changed(True)
            if self._said:
                self._report(f"store: Redis at {self._address} is back: limits are shared again")
                self._said = ""
            first.set()
            await self._down.wait()

    def _say(self, why: str) -> None:
        """A new outage is one line, however often it is tried again."""
        if not self._said:
            self._report(f"store: Redis at {self._address} is out of reach ({why}): limits follow their outage mode")
            self._said = why

    async def _connect(self) -> None:
        self._generation += 1
        connection = self._connection = await connect(self._address, partial(self._lost, self._generation))
        server = await connection.ask("INFO", "server")
        version = _version(server)
        if version < OLDEST:
            raise ValueError(f"Redis {'.'.join(map(str, version))} is too old, {OLDEST[0]}.{OLDEST[1]} is needed")
        with contextlib.suppress(hiredis.ReplyError):  # a user without the right to ask has been configured with care
            policy = await connection.ask("CONFIG", "GET", "maxmemory-policy")
            if len(policy) == 2 and policy[1] != b"noeviction":
                raise ValueError(f"maxmemory-policy is {policy[1].decode()}: it would forget limits, set noeviction")
        for script in _SHA:
            await connection.ask("SCRIPT", "LOAD", script)


def _version(server: bytes) -> tuple[int, ...]:
    for line in server.splitlines():
        if line.startswith(b"redis_version:"):
            return tuple(int(part) for part in line.partition(b":")[2].split(b".")[:2] if part.isdigit())
    return OLDEST


_KINDS = {"OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "TRYAGAIN", "BUSY", "NOAUTH", "NOPERM", "WRONGPASS"}


def _kind_of(error: Exception) -> str:
    word = str(error).partition(" ")[0]
    return word.lower() if word in _KINDS else "reply"

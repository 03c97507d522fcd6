"""One connection to Redis, its deadline and its breaker. While it is open nothing waits for it; it comes back by itself.

Where the connection leads is asked anew each time: after a failover or a slot's move the old server answers with an error (or not at
all), which opens the breaker, and the next connection goes where the Sentinels or the cluster say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from gateway.store.resp import OnReply, RedisAddress, RespConnection, connect
from gateway.store.scripts import ADMIT, SCRIPTS, digest

CONNECT_TIMEOUT_S = 1.0
RETRY_DELAYS_S = (0.05, 0.5)
"""Seconds between attempts to reach Redis again: the first, and the longest."""
STABLE_AFTER_S = 1.0
"""Seconds after which a connection counts as one that holds."""
CONNECTION_ENDED = "the connection ended"
"""Why a server is left that says no more than that: the next attempt to reach it may know."""
MIN_REDIS_VERSION = (5, 0)
"""Scripts may only write after they asked for the time since this version."""
_SCRIPT_DIGESTS = {script: digest(script) for script in SCRIPTS}
_ERROR_KINDS = {
    "OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "BUSY", "NOAUTH", "NOPERM",
    "WRONGPASS",
}  # fmt: skip

Locate = Callable[[], Awaitable[RedisAddress]]


class RedisConnection:
    """Runs scripts on one server. `up` says whether it can be asked now."""

    def __init__(self, locate: Locate, probe: str, timeout_s: float, on_change: Callable[[str], None], count_error: Callable[[str], None]) -> None:
        """`locate` finds the server, `probe` is a key that it must let us write. `turned` is called after each change of `up`, and
        after each attempt in vain, with the reason ("" when up); `count` with the kind of each failure.
        """
        self._locate = locate
        self._probe = probe
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._count_error = count_error
        self._connection: RespConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._generation = 0
        self.up = False
        self.commands = 0
        """Scripts run: one for all decisions of a tick."""
        self.slowest_reply_s = 0.0
        """Longest wait for a reply, or for giving it up, in seconds."""

    async def start(self) -> None:
        """Reach the server, waiting for the first attempt only."""
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

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], done: OnReply) -> None:
        """Run a script within the deadline. `done` gets its reply once, or the exception that opened the breaker."""
        connection = self._connection
        if not self.up or connection is None:
            done(ConnectionError("Redis is out of reach"))
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        state = [False, False]  # answered, its last chance has come

        def late() -> None:
            if state[0]:
                return
            if not state[1]:  # a loop that was busy may have the reply in its socket already: look once more
                state[1] = True
                loop.call_later(0.001, late)
                return
            state[0] = True
            self.slowest_reply_s = max(self.slowest_reply_s, loop.time() - began)
            self._fail("deadline", f"no answer within {self._timeout_s * 1000:g} ms")
            done(TimeoutError("Redis did not answer in time"))

        timer = loop.call_later(self._timeout_s, late)

        def answered(reply: Any) -> None:
            if state[0]:
                return
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self._count_error("noscript")
                connection.send(("EVAL", script, len(keys), *keys, *arguments), answered)
                return
            state[0] = True
            timer.cancel()
            took = loop.time() - began
            if took > self.slowest_reply_s:
                self.slowest_reply_s = took
            if isinstance(reply, hiredis.ReplyError):
                self._fail(_error_kind(reply), str(reply)[:200])
            done(reply)

        self.commands += 1
        connection.send(("EVALSHA", _SCRIPT_DIGESTS[script], len(keys), *keys, *arguments), answered)

    def _fail(self, kind: str, why: str) -> None:
        """Open the breaker: what was asked on this connection stays unanswered, and a new one is looked for."""
        self._count_error(kind)
        if self.up:
            self.up = False
            self._on_change(why)
        if self._connection is not None:
            self._connection.abort()
        self._down.set()

    def _on_lost(self, generation: int) -> None:
        """A connection ended; an older one than the present says nothing."""
        if generation != self._generation:
            return
        self._connection = None
        if self.up:
            self._fail("connection", CONNECTION_ENDED)
        self._down.set()

    async def _stay_connected(self, first: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        delay = RETRY_DELAYS_S[0]
        while True:
            self._down.clear()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    address = await self._locate()
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._connect(address)
            except (OSError, TimeoutError, hiredis.HiredisError, ValueError) as error:
                self._count_error(_error_kind(error) if isinstance(error, hiredis.ReplyError) else "connect")
                if self._connection is not None:
                    self._connection.abort()
                self._on_change(str(error)[:200] or f"no answer within {CONNECT_TIMEOUT_S:g} s of connecting")
            else:
                since = loop.time()
                self.up = True
                self._on_change("")
                first.set()
                await self._down.wait()
                if loop.time() - since > STABLE_AFTER_S:
                    delay = RETRY_DELAYS_S[0]
                    continue
            first.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_DELAYS_S[1])

    async def _connect(self, address: RedisAddress) -> None:
        self._generation += 1
        connection = self._connection = await connect(address, partial(self._on_lost, self._generation))
        version = _version(await _ask_if_permitted(connection, "INFO", "server"))
        if version < MIN_REDIS_VERSION:
            raise ValueError(f"Redis {'.'.join(map(str, version))} is too old, {MIN_REDIS_VERSION[0]}.{MIN_REDIS_VERSION[1]} is needed")
        role = await _ask_if_permitted(connection, "ROLE")
        if role and role[0] != b"master":
            raise ValueError(f"{address} is a replica: limits are counted on its master")
        policy = _info_field(await _ask_if_permitted(connection, "INFO", "memory"), b"maxmemory_policy")  # CONFIG is what few users may ask
        if policy not in (b"", b"noeviction"):
            raise ValueError(f"maxmemory-policy is {policy.decode()[:40]}: it would forget limits, set noeviction")
        for script in _SCRIPT_DIGESTS:
            await connection.execute("SCRIPT", "LOAD", script)
        await connection.execute("SET", self._probe, "1", "PX", "10000")  # what cannot be written to is of no use
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.execute("EVALSHA", _SCRIPT_DIGESTS[ADMIT], 1, self._probe, 0, "")
        except TimeoutError:
            raise TimeoutError(f"no answer within {self._timeout_s * 1000:g} ms") from None


async def _ask_if_permitted(connection: RespConnection, *command: str) -> Any:
    """The answer, None when the user may not ask: a user with few rights has been configured with care."""
    try:
        return await connection.execute(*command)
    except hiredis.ReplyError as error:
        if _error_kind(error) == "noperm" or "unknown command" in str(error):
            return None
        raise


def _version(server: bytes | None) -> tuple[int, ...]:
    version = _info_field(server, b"redis_version")
    return tuple(int(part) for part in version.split(b".")[:2] if part.isdigit()) if version else MIN_REDIS_VERSION


def _info_field(info: bytes | None, name: bytes) -> bytes:
    """One value of an INFO reply, empty when it has none."""
    for line in (info or b"").splitlines():
        key, _, value = line.partition(b":")
        if key == name:
            return value.strip()
    return b""


def _error_kind(error: Exception) -> str:
    word = str(error).partition(" ")[0]
    return word.lower() if word in _ERROR_KINDS else "reply"

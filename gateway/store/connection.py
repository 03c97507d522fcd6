"""One connection to Redis with a reply timeout and a circuit breaker. It reconnects automatically.

While the breaker is open, scripts fail at once. The server is located again for each connection. After a failover or
the migration of a hash slot, the old server replies with an error or not at all. An error or a missing reply opens
the breaker, and the next connection goes to the server that Sentinel or the cluster names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from gateway.config.redis_address import RedisAddress
from gateway.store.resp import OnReply, RespConnection, connect
from gateway.store.scripts import ADMIT, SCRIPTS, digest
from gateway.upstream.end_tasks import end_tasks

CONNECT_TIMEOUT_S = 1.0
RETRY_DELAYS_S = (0.05, 0.5)
"""First and longest delay before a reconnect. The delay doubles after each failed attempt."""
STABLE_AFTER_S = 1.0
"""A connection that lasted this long resets the reconnect delay."""
CONNECTION_ENDED = "the connection ended"
"""Reported if the server closed the connection without an error.

The next connection attempt may give a better reason.
"""
MIN_REDIS_VERSION = (5, 0)
"""The oldest version in which a script may write after it has called TIME."""
_SCRIPT_DIGESTS = {script: digest(script) for script in SCRIPTS}
_ERROR_KINDS = {
    "OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "BUSY", "NOAUTH", "NOPERM",
    "WRONGPASS", "LOST",
}  # fmt: skip

Locate = Callable[[], Awaitable[RedisAddress]]
_Command = tuple[str, Sequence[str], Sequence[Any]]
"""A script, its keys and its arguments."""


class _ScriptRun:
    """One run of a script: passes on its reply, or an exception after its timeout.

    Two nested functions would refer to themselves. Such a cycle of references would keep the decisions of the run, and their
    calls, in memory until the next garbage collection.
    """

    __slots__ = ("_command", "_connection", "_is_done", "_is_extended", "_on_reply", "_owner", "_started_at", "_timer")

    def __init__(self, owner: RedisConnection, connection: RespConnection, command: _Command, on_reply: OnReply) -> None:
        self._owner = owner
        self._connection = connection
        self._command = command
        self._on_reply = on_reply
        self._is_done = self._is_extended = False
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout_s: float) -> None:
        """Start the timeout."""
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        self._timer = loop.call_later(timeout_s, self._on_timeout)

    def _on_timeout(self) -> None:
        if self._is_done:
            return
        loop = asyncio.get_running_loop()
        if not self._is_extended:  # if the event loop was busy, the reply may already be in the socket: check once more
            self._is_extended = True
            self._timer = loop.call_later(0.001, self._on_timeout)
            return
        self._is_done = True
        self._owner.note_timeout(loop.time() - self._started_at)
        self._on_reply(TimeoutError("Redis did not answer in time"))

    def on_result(self, reply: Any) -> None:
        """Pass on the reply, unless the timeout has passed. If the server does not know the script, send the whole script."""
        if self._is_done:
            return
        error = reply if isinstance(reply, hiredis.ReplyError) else None
        if error is not None and str(error).startswith("NOSCRIPT"):
            self._owner.note_unknown_script()
            script, keys, arguments = self._command
            self._connection.send(("EVAL", script, len(keys), *keys, *arguments), self.on_result)
            return
        self._is_done = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.note_reply(asyncio.get_running_loop().time() - self._started_at, error)
        self._on_reply(reply)


class RedisConnection:
    """Runs scripts on one server. `up` is True while the server is reachable."""

    def __init__(
        self,
        locate: Locate,
        probe: str,
        timeout_s: float,
        on_change: Callable[[str], None],
        count_error: Callable[[str], None],
        prepare: Callable[[RespConnection], Awaitable[None]] | None = None,
    ) -> None:
        """Create a connection; `start` opens it.

        `locate` finds the server. `probe` is a key to which the server must accept writes. `on_change` is called after
        each change of `up` and after each failed connection attempt. The argument of `on_change` is the reason why the
        server is unreachable ("" if `up` is True). `count_error` is called with the kind of each failure.
        `prepare` sends more commands on a new connection before the connection is used.
        """
        self._prepare = prepare
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
        """Number of scripts run. Decisions in the same event loop iteration share a run if their limits have the same hash tag."""
        self.slowest_reply_s = 0.0
        """Longest time from a script run to its reply or its timeout."""

    async def start(self) -> None:
        """Connect in the background. Return after the first attempt, successful or not."""
        first = asyncio.Event()
        self._task = asyncio.create_task(self._stay_connected(first))
        await first.wait()

    async def stop(self) -> None:
        """Close the connection and stop reconnecting."""
        await end_tasks([self._task])
        if self._connection is not None:
            self._connection.abort()
        self.up = False

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: OnReply) -> None:
        """Run a script. `on_reply` is called once, with the reply or with an exception."""
        connection = self._connection
        if not self.up or connection is None:
            on_reply(ConnectionError("Redis is unavailable"))
            return
        self.commands += 1
        run = _ScriptRun(self, connection, (script, keys, arguments), on_reply)
        run.start(self._timeout_s)
        connection.send(("EVALSHA", _SCRIPT_DIGESTS[script], len(keys), *keys, *arguments), run.on_result)

    def run_together(self, send: Callable[[], None]) -> None:
        """Call `send`, which runs several scripts, and write their commands together."""
        connection = self._connection
        if connection is None:
            send()
            return
        connection.hold_writes()
        try:
            send()
        finally:
            connection.write_held()

    def note_reply(self, took_s: float, error: hiredis.ReplyError | None) -> None:
        """Note the time until a reply. An error opens the breaker."""
        if took_s > self.slowest_reply_s:
            self.slowest_reply_s = took_s
        if error is not None:
            self._fail(_error_kind(error), str(error)[:200])

    def note_timeout(self, took_s: float) -> None:
        """Note the time until a timeout, which opens the breaker."""
        self.slowest_reply_s = max(self.slowest_reply_s, took_s)
        self._fail("deadline", f"no answer within {self._timeout_s * 1000:g} ms")

    def note_unknown_script(self) -> None:
        """Count a script that the server did not know."""
        self._count_error("noscript")

    def _fail(self, kind: str, reason: str) -> None:
        """Open the breaker: fail all scripts in flight on this connection, then reconnect."""
        self._count_error(kind)
        if self.up:
            self.up = False
            self._on_change(reason)
        if self._connection is not None:
            self._connection.abort()
        self._down.set()

    def _on_lost(self, generation: int) -> None:
        """Handle the end of a connection. Ignore connections that have already been replaced."""
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
                self._on_change(str(error)[:200] or f"no usable connection within {CONNECT_TIMEOUT_S:g} s")
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
            installed, needed = (".".join(map(str, numbers)) for numbers in (version, MIN_REDIS_VERSION))
            raise ValueError(f"Redis {installed} is too old: use {needed} or later")
        role = await _ask_if_permitted(connection, "ROLE")
        if role and role[0] != b"master":
            raise ValueError(f"{address} is a replica: use its master")
        memory = await _ask_if_permitted(connection, "INFO", "memory")  # instead of CONFIG GET, which many Redis accounts may not run
        policy = _info_field(memory, b"maxmemory_policy")
        if policy not in (b"", b"noeviction"):
            raise ValueError(f"maxmemory-policy is {policy.decode()[:40]}, which evicts limits: set noeviction")
        for script in _SCRIPT_DIGESTS:
            await connection.execute("SCRIPT", "LOAD", script)
        await connection.execute("SET", self._probe, "1", "PX", "10000")  # fails if the server refuses writes
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.execute("EVALSHA", _SCRIPT_DIGESTS[ADMIT], 1, self._probe, 0, "")
        except TimeoutError:
            raise TimeoutError(f"no answer within {self._timeout_s * 1000:g} ms") from None
        if self._prepare is not None:
            await self._prepare(connection)


async def _ask_if_permitted(connection: RespConnection, *command: str) -> Any:
    """Return the reply, or None if the server lacks the command or this Redis account may not run it.

    The check that needs the reply is then skipped: restricted rights indicate a deliberate setup.
    """
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
    """Return one value of an INFO reply, or b"" if it is missing."""
    for line in (info or b"").splitlines():
        key, _, value = line.partition(b":")
        if key == name:
            return value.strip()
    return b""


def _error_kind(error: Exception) -> str:
    word = str(error).partition(" ")[0]
    return word.lower() if word in _ERROR_KINDS else "reply"

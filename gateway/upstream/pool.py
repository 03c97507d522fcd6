"""The connections to one origin: reused last in first out, capped, and shared out first come first served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.deadlines import Ticker
from gateway.upstream.stats import TransportStats
from gateway.upstream.transport import Deadlines, Origin, UpstreamError

Dial = Callable[["Pool", Deadlines, float], Awaitable[UpstreamConnection]]
"""Opens one connection for a pool before the deadlines or the total (a time on the clock) pass."""


class _Waiter:
    """One sender in the queue: given a connection, or None for the right to open one."""

    __slots__ = ("deadline", "granted")

    def __init__(self, deadline: float, granted: asyncio.Future[UpstreamConnection | None]) -> None:
        self.deadline = deadline
        self.granted = granted

    def expire(self, now: float) -> None:
        self.deadline = float("inf")
        if not self.granted.done():
            self.granted.set_exception(UpstreamError("overloaded", "no connection to the upstream became free in time"))


class Pool:
    """At most `cap` connections to `origin`; `keepalive` is how long one may lie idle, in seconds."""

    def __init__(self, origin: Origin, max_connections: int, keepalive_s: float, ticker: Ticker, dial: Dial, stats: TransportStats) -> None:
        self.origin = origin
        self.max_connections = max_connections
        self.stats = stats
        self.ticker = ticker
        self.origin_part = ""
        self.size = 0
        """Connections open or being opened, idle ones included."""
        self.idle: list[UpstreamConnection] = []
        self.connections: set[UpstreamConnection] = set()
        self.is_closed = False
        self._keepalive_s = keepalive_s
        self._dial = dial
        self._queue: OrderedDict[_Waiter, None] = OrderedDict()

    def new_connection(self) -> UpstreamConnection:
        """A connection of this pool, without a socket so far."""
        return UpstreamConnection(self.ticker.clock, self.stats, self.release, self.drop)

    @property
    def waiting(self) -> int:
        """Senders in the queue."""
        return len(self._queue)

    @property
    def in_use(self) -> int:
        """Connections with an exchange under way or being opened."""
        return self.size - len(self.idle)

    def take_idle(self) -> UpstreamConnection | None:
        """The idle connection used last. There is none while somebody waits: whoever is done hands over directly."""
        if self.idle:
            self.stats.reuses += 1
            return self.idle.pop()
        return None

    async def acquire(self, deadlines: Deadlines, total: float) -> UpstreamConnection:
        """A connection: idle, new or handed over by whoever is done with one; UpstreamError when none comes in time."""
        connection = self.take_idle()
        if connection is not None:
            return connection
        if self.size < self.max_connections:
            self.size += 1
        else:
            connection = await self._wait(deadlines, total)
            if connection is not None:
                self.stats.reuses += 1
                return connection
        return await self.connect(deadlines, total)

    async def connect(self, deadlines: Deadlines, total: float) -> UpstreamConnection:
        """A new connection in a slot that is taken already; the slot is free again if that fails."""
        try:
            if self.is_closed:
                raise UpstreamError("connect", "the transport is closed")
            connection = await self._dial(self, deadlines, total)
            if connection.closed or self.is_closed:
                connection.abort()
                raise UpstreamError("closed_pre", "the connection was closed as soon as it was open")
        except BaseException:
            self.size -= 1
            self._grant_slot()
            raise
        connection.has_slot = True
        self.connections.add(connection)
        self.stats.connects += 1
        self.ticker.watch(connection)
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """A connection is free again: the first in the queue gets it."""
        if self.is_closed:
            connection.abort()
            return
        connection.deadline = self.ticker.clock() + self._keepalive_s
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.granted.done():
                waiter.granted.set_result(connection)
                return
        self.idle.append(connection)

    def drop(self, connection: UpstreamConnection) -> None:
        """A connection is closed: its slot is free. Idempotent."""
        if not connection.has_slot:
            return
        connection.has_slot = False
        self.ticker.forget(connection)
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self.size -= 1
        self._grant_slot()

    def keep_slot(self, connection: UpstreamConnection) -> None:
        """A connection is closed, its slot stays with the sender, who connects anew."""
        connection.has_slot = False
        self.ticker.forget(connection)
        self.connections.discard(connection)

    def close(self) -> None:
        """Abort every connection and refuse whoever waits."""
        self.is_closed = True
        for connection in list(self.connections):
            connection.abort()
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.granted.done():
                waiter.granted.set_exception(UpstreamError("connect", "the transport is closed"))

    async def _wait(self, deadlines: Deadlines, total: float) -> UpstreamConnection | None:
        """In the queue until a connection (or the right to open one) comes; a sender who leaves passes both on."""
        loop = asyncio.get_running_loop()
        deadline = min(self.ticker.clock() + deadlines.first_byte, total)
        front = False
        while True:
            waiter = _Waiter(deadline, loop.create_future())
            self._queue[waiter] = None
            if front:
                self._queue.move_to_end(waiter, last=False)
            self.ticker.watch(waiter)
            try:
                connection = await waiter.granted
            except BaseException:
                self._pass_on(waiter)
                raise
            finally:
                self.ticker.forget(waiter)
            if connection is None or not connection.closed:
                return connection
            if self.size < self.max_connections:  # closed between being handed over and being taken, its slot freed
                self.size += 1
                return None
            front = True

    def _pass_on(self, waiter: _Waiter) -> None:
        self._queue.pop(waiter, None)
        granted = waiter.granted
        if not granted.done() or granted.cancelled() or granted.exception() is not None:
            return
        connection = granted.result()
        if connection is None:
            self.size -= 1
            self._grant_slot()
        elif not connection.closed:
            self.release(connection)

    def _grant_slot(self) -> None:
        """Give a free slot to the first in the queue."""
        while self._queue and self.size < self.max_connections:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.granted.done():
                self.size += 1
                waiter.granted.set_result(None)

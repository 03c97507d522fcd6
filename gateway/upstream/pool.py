"""The connections to one origin: limited in number and reused in LIFO order; waiting senders are served in FIFO order."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.deadlines import Ticker
from gateway.upstream.request_head import HeadCache
from gateway.upstream.stats import TransportStats
from gateway.upstream.transport import Deadlines, Origin, UpstreamError

Dial = Callable[["Pool", Deadlines, float], Awaitable[UpstreamConnection]]
"""Opens a connection for a pool within the deadlines.

The last argument is the time on the transport's clock by which the attempt must have ended.
"""


MAX_IDLE_FOR_UPLOAD_S = 3.0
"""Maximum time for which a connection may have been idle if the request has a body that cannot be sent again."""


class _Waiter:
    """A sender in the queue. It is granted a connection, or None as permission to open one."""

    __slots__ = ("deadline", "granted")

    def __init__(self, deadline: float, granted: asyncio.Future[UpstreamConnection | None]) -> None:
        self.deadline = deadline
        self.granted = granted

    def expire(self, now: float) -> None:
        self.deadline = float("inf")
        if not self.granted.done():
            self.granted.set_exception(UpstreamError("overloaded", "no connection to the upstream became free in time"))


class Pool:
    """At most `max_connections` connections to `origin`. An idle connection is closed after `keepalive_s` seconds."""

    def __init__(self, origin: Origin, max_connections: int, keepalive_s: float, ticker: Ticker, dial: Dial, stats: TransportStats) -> None:
        self.origin = origin
        self.max_connections = max_connections
        self.stats = stats
        self.ticker = ticker
        self.heads = HeadCache("")
        self.size = 0
        """Number of connections that are open (including idle ones) or being opened."""
        self.idle: list[UpstreamConnection] = []
        self.connections: set[UpstreamConnection] = set()
        self.is_closed = False
        self._keepalive_s = keepalive_s
        self._dial = dial
        self._queue: OrderedDict[_Waiter, None] = OrderedDict()

    def new_connection(self) -> UpstreamConnection:
        """Return a connection of this pool that has no socket yet."""
        return UpstreamConnection(self.ticker.clock, self.stats, self.release, self.drop)

    @property
    def waiting(self) -> int:
        """Number of senders in the queue."""
        return len(self._queue)

    @property
    def in_use(self) -> int:
        """Number of connections that are being opened or have an exchange in progress."""
        return self.size - len(self.idle)

    def take_idle(self) -> UpstreamConnection | None:
        """Return the most recently used idle connection.

        Return None if no connection is idle. While senders wait, none is idle, because they get released connections directly.
        """
        if self.idle:
            self.stats.reuses += 1
            return self.idle.pop()
        return None

    async def acquire(self, deadlines: Deadlines, total: float) -> UpstreamConnection:
        """Return an idle, new or released connection. Raise UpstreamError on failure."""
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

    async def acquire_recent(self, deadlines: Deadlines, total: float) -> UpstreamConnection:
        """Do what `acquire` does, but never return a connection that was idle for long: the upstream may have closed it."""
        if not self.idle:
            return await self.acquire(deadlines, total)
        latest = self.idle[-1]
        if self._keepalive_s - (latest.deadline - self.ticker.clock()) <= MAX_IDLE_FOR_UPLOAD_S:
            return await self.acquire(deadlines, total)
        if self.size >= self.max_connections:
            self.idle[0].abort()  # this releases the slot of the connection
        self.size += 1
        return await self.connect(deadlines, total)

    async def connect(self, deadlines: Deadlines, total: float) -> UpstreamConnection:
        """Open a connection in a slot that is already taken. On failure the slot is released."""
        try:
            if self.is_closed:
                raise UpstreamError("connect", "the transport is closed")
            connection = await self._dial(self, deadlines, total)
            if connection.closed or self.is_closed:
                connection.abort()
                raise UpstreamError("closed_pre", "the upstream closed the connection as soon as it was opened")
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
        """Give a connection that became idle to the first waiting sender, or keep it."""
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
        """Release the slot of a closed connection. Idempotent."""
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
        """Forget a closed connection but keep its slot for the sender, which reconnects."""
        connection.has_slot = False
        self.ticker.forget(connection)
        self.connections.discard(connection)

    def close(self) -> None:
        """Abort every connection and fail the waiting senders."""
        self.is_closed = True
        for connection in list(self.connections):
            connection.abort()
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.granted.done():
                waiter.granted.set_exception(UpstreamError("connect", "the transport is closed"))

    async def _wait(self, deadlines: Deadlines, total: float) -> UpstreamConnection | None:
        """Wait for a connection, or for permission to open one (None). If this sender is cancelled, the next sender is served."""
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
            if self.size < self.max_connections:  # the connection was closed after it was granted, and released its slot
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
        """Grant free slots to the first senders in the queue."""
        while self._queue and self.size < self.max_connections:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.granted.done():
                self.size += 1
                waiter.granted.set_result(None)

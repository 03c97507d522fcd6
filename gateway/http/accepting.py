"""Accepts more connections between two turns of the event loop while many callers connect at the same time.

uvloop accepts one connection per socket and turn, so a listener has copies, which accept from the same queue. Calls that begin in the
same turn run stage by stage and share the messages to the store: with 16 copies instead of 4, a call on a new connection takes a fifth
less CPU time if 2,000 callers connect at once (measured). But each copy without a connection costs a failed accept() of 3 us for every
connection that arrives alone, so there are only a few copies at other times.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

FEW_SOCKETS, MANY_SOCKETS = 4, 16
FULL_TURNS = 2
"""Number of turns in which every socket accepts a connection after which there are more sockets."""
MAX_PAUSE_S = 0.05
"""Maximum time between two such turns."""
QUIET_S = 1.0
"""Time after the last turn with more than FEW_SOCKETS connections until the further sockets are closed."""


class Listening(Protocol):
    """The server of one socket."""

    def is_serving(self) -> bool:
        """Return whether the server accepts connections."""
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


S = TypeVar("S", bound=Listening)


def copies(listener: socket.socket) -> list[socket.socket]:
    """Return the listening socket and copies of it, which accept from the same queue."""
    return [listener, *(listener.dup() for _ in range(FEW_SOCKETS - 1))]


class Accepting(Generic[S]):
    """The sockets on which connections are accepted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener: socket.socket | None = None
        self._listen: Callable[[socket.socket], Awaitable[S]] | None = None
        self._servers: list[S] = []
        self._more: list[S] = []
        self._opening: asyncio.Task[None] | None = None
        self._in_turn = self._full_turns = 0
        self._full_at = self._wide_at = float("-inf")

    def begin(self, listener: socket.socket, servers: list[S], listen: Callable[[socket.socket], Awaitable[S]]) -> None:
        """Add servers to `servers`, which has those of the copies, when many callers connect. `listen` starts the server of a socket."""
        self._listener, self._servers, self._listen = listener, servers, listen

    def count(self) -> None:
        """Count a connection that has just been accepted."""
        self._in_turn += 1
        if self._in_turn == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)

    def close_unneeded(self) -> None:
        """Close the further sockets if few connections have been accepted together for a while. Call this several times a second."""
        if self._more and self._clock() - self._wide_at > QUIET_S:
            self.stop()

    def stop(self) -> None:
        """Close the further sockets."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for server in self._more:
            server.close()
            self._servers.remove(server)
        self._more.clear()

    def _end_turn(self) -> None:
        accepted, self._in_turn = self._in_turn, 0
        if accepted < FEW_SOCKETS:
            return
        now = self._clock()
        self._full_turns = self._full_turns + 1 if now - self._full_at <= MAX_PAUSE_S else 1
        self._full_at = now
        if accepted > FEW_SOCKETS:
            self._wide_at = now
        if self._full_turns >= FULL_TURNS and self._opening is None and self._listen is not None:
            self._wide_at = now
            self._opening = asyncio.get_running_loop().create_task(self._open_more(self._listen))

    async def _open_more(self, listen: Callable[[socket.socket], Awaitable[S]]) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):  # there are too many open files
            while len(self._more) < MANY_SOCKETS - FEW_SOCKETS and self._servers[0].is_serving():
                sock = self._listener.dup()
                try:
                    server = await listen(sock)
                except BaseException:
                    sock.close()
                    raise
                self._more.append(server)
                self._servers.append(server)

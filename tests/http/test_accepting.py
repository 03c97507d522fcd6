"""A listener accepts more connections at once while many callers connect, and few at other times."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.config.formats import Address
from gateway.http import accepting
from gateway.http.accepting import FEW_SOCKETS, FULL_TURNS, MANY_SOCKETS, MAX_PAUSE_S, QUIET_S, Accepting, copies
from gateway.http.listener import Server, bind, make_server

CALLERS = 200


class FakeServer:
    """A server that accepts nothing."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        """Note that the server was closed."""
        self.is_open = False

    def is_serving(self) -> bool:
        """Return whether the server is open."""
        return self.is_open


class Turns:
    """An object under test, its clock and its servers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.servers = [FakeServer() for _ in range(FEW_SOCKETS)]
        self.refusals: list[OSError] = []
        self.opened: list[socket.socket] = []
        self.accepting: Accepting[FakeServer] = Accepting(lambda: self.now)
        self.listener = socket.socket()
        self.accepting.begin(self.listener, self.servers, self._listen)

    async def _listen(self, sock: socket.socket) -> FakeServer:
        self.opened.append(sock)
        if self.refusals:
            raise self.refusals.pop()
        return FakeServer()

    async def turn(self, accepted: int, *, later: float = 0.0) -> int:
        """Accept connections in one turn. Return the number of servers afterwards."""
        self.now += later
        for _ in range(accepted):
            self.accepting.count()
        for _ in range(5):
            await asyncio.sleep(0)
        return len(self.servers)

    def close(self) -> None:
        """Close all sockets."""
        for sock in (self.listener, *self.opened):
            sock.close()


@contextlib.asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    """Turns whose sockets are closed in the end."""
    made = Turns()
    try:
        yield made
    finally:
        made.close()


async def test_full_turns_in_succession_open_more_sockets() -> None:
    async with turns() as each:
        counts = [await each.turn(FEW_SOCKETS) for _ in range(FULL_TURNS + 1)]
        assert counts == [FEW_SOCKETS] * (FULL_TURNS - 1) + [MANY_SOCKETS] * 2


async def test_few_connections_or_rare_full_turns_open_no_sockets() -> None:
    async with turns() as each:
        assert {await each.turn(FEW_SOCKETS - 1) for _ in range(20)} == {FEW_SOCKETS}
        assert {await each.turn(FEW_SOCKETS, later=2 * MAX_PAUSE_S) for _ in range(20)} == {FEW_SOCKETS}


async def test_further_sockets_are_closed_when_few_callers_connect() -> None:
    async with turns() as each:
        for _ in range(FULL_TURNS):
            await each.turn(FEW_SOCKETS)
        more = each.servers[FEW_SOCKETS:]
        await each.turn(FEW_SOCKETS + 1, later=QUIET_S)
        each.accepting.close_unneeded()
        assert len(each.servers) == MANY_SOCKETS
        await each.turn(FEW_SOCKETS, later=2 * QUIET_S)
        each.accepting.close_unneeded()
        assert len(each.servers) == FEW_SOCKETS
        assert not any(server.is_serving() for server in more)
        assert all(server.is_serving() for server in each.servers)
        assert await each.turn(FEW_SOCKETS) == MANY_SOCKETS, "a second burst opens them again"


async def test_lack_of_files_leaves_the_sockets_that_there_are() -> None:
    async with turns() as each:
        each.refusals.append(OSError(24, "Too many open files"))
        for _ in range(FULL_TURNS + 2):
            assert await each.turn(FEW_SOCKETS) == FEW_SOCKETS
        assert [sock.fileno() for sock in each.opened] == [-1]


async def test_closed_listener_gets_no_further_sockets() -> None:
    async with turns() as each:
        each.servers[0].close()
        for _ in range(FULL_TURNS + 1):
            assert await each.turn(FEW_SOCKETS) == FEW_SOCKETS


async def test_stop_ends_the_opening_of_sockets() -> None:
    async with turns() as each:
        for _ in range(FULL_TURNS):
            for _ in range(FEW_SOCKETS):
                each.accepting.count()
            await asyncio.sleep(0)
        each.accepting.stop()
        assert await each.turn(0) == FEW_SOCKETS


async def _app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    raise NotImplementedError


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the state has no event
            await asyncio.sleep(0.001)


def _copies_of(name: str) -> int:
    """Return how many descriptors of this process refer to a socket."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the folder is closed
            count += os.readlink(f"/proc/self/fd/{number}") == name
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_burst_of_callers_is_accepted_on_more_sockets_which_are_closed_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "MAX_PAUSE_S", float("inf"))
    monkeypatch.setattr(accepting, "QUIET_S", float("inf"))

    async def serve(server: Server, sockets: list[socket.socket]) -> None:
        address, name = sockets[0].getsockname(), os.readlink(f"/proc/self/fd/{sockets[0].fileno()}")
        serving = asyncio.create_task(server.serve(sockets))
        for _ in range(2):  # a second burst is like the first one
            callers = [socket.create_connection(address) for _ in range(CALLERS)]
            await _until(lambda: len(server.server_state.connections) == CALLERS)
            assert len(server.servers) == MANY_SOCKETS
            monkeypatch.setattr(accepting, "QUIET_S", 0.0)
            await _until(lambda: len(server.servers) == FEW_SOCKETS)
            monkeypatch.setattr(accepting, "QUIET_S", float("inf"))
            for caller in callers:
                caller.close()
            await _until(lambda: not server.server_state.connections)
            await _until(lambda: _copies_of(name) == FEW_SOCKETS)
        server.should_exit = True
        await serving
        assert _copies_of(name) == 0

    _run(serve)


def test_shutdown_during_a_burst_closes_every_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "MAX_PAUSE_S", float("inf"))

    async def serve(server: Server, sockets: list[socket.socket]) -> None:
        address = sockets[0].getsockname()
        callers = [socket.create_connection(address) for _ in range(CALLERS)]
        serving = asyncio.create_task(server.serve(sockets))
        await _until(lambda: len(server.servers) > FEW_SOCKETS if server.started else False)
        server.should_exit = True
        await serving
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address).close()
        for caller in callers:
            caller.close()

    _run(serve)


def _run(serve: Callable[[Server, list[socket.socket]], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        server = make_server(_app, grace=None)
        try:
            await serve(server, copies(bind(Address("127.0.0.1", 0))))
        finally:  # after a failure, uvloop would wait for the connections forever
            server.should_exit = server.force_exit = True
            await _until(lambda: len(asyncio.all_tasks()) == 1)

    uvloop.run(run())

"""Listening sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from gateway.config.formats import Address
from gateway.http.accepting import FEW_SOCKETS, copies
from gateway.http.listener import ListenError, bind, make_server, seat_name, url_of


def test_a_free_port_is_bound_and_shown_as_a_url() -> None:
    with bind(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        assert url_of(listener, tls=True) == f"https://127.0.0.1:{port}"
        assert not listener.getblocking()


def test_an_address_in_use_is_one_line() -> None:
    with bind(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind(Address("127.0.0.1", port))
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_restarted_worker_has_the_same_seat_and_another_worker_has_not() -> None:
    with bind(Address("127.0.0.1", 0)) as listener:
        assert seat_name(listener, 1) == seat_name(listener, 1) != seat_name(listener, 2)
        assert seat_name(listener).startswith(socket.gethostname())


def test_connections_are_accepted_together_and_no_copy_of_the_listener_stays_open() -> None:
    listener = bind(Address("127.0.0.1", 0))
    address = listener.getsockname()
    sockets = copies(listener)

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        raise NotImplementedError

    async def count_turns() -> int:
        callers = [socket.create_connection(address) for _ in range(FEW_SOCKETS)]
        server = make_server(app, grace=None)
        serving = asyncio.create_task(server.serve(sockets))
        turns = 0
        while len(server.server_state.connections) < len(callers):
            await asyncio.sleep(0)
            turns += bool(server.server_state.connections)
        for caller in callers:
            caller.close()
        server.should_exit = True
        await serving
        return turns

    assert uvloop.run(count_turns()) < FEW_SOCKETS
    assert all(each.fileno() == -1 for each in sockets)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address).close()

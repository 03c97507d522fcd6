"""The protocol of a caller's connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from gateway.http.protocol import CallerProtocol
from tests.flows.live import eventually
from tests.support.listener import Listener


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve nothing."""


@asynccontextmanager
async def connections(listener: socket.socket) -> AsyncIterator[list[CallerProtocol]]:
    """Accept connections. Yield those that were accepted."""
    config, state = uvicorn.Config(application, log_config=None), ServerState()
    config.load()
    accepted: list[CallerProtocol] = []

    class Recorded(CallerProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            accepted.append(self)

    def accept() -> CallerProtocol:
        return Recorded(config=config, server_state=state, app_state={})

    server = Listener(listener, accept)
    try:
        yield accepted
    finally:
        await server.close()
        for one in accepted:
            one.transport.abort()


async def test_a_connection_has_the_addresses_of_its_two_ends() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    async with connections(listener) as accepted:
        with socket.create_connection(listener.getsockname()) as client:
            await eventually(lambda: bool(accepted))
            assert accepted[0].client == client.getsockname()
            assert accepted[0].server == client.getpeername()
            assert accepted[0].scheme == "http"


def test_a_caller_that_has_disconnected_before_it_is_accepted_has_no_address() -> None:
    uvloop.run(accept_a_closed_connection())  # asyncio reads the address earlier


async def accept_a_closed_connection() -> None:
    """Reset a connection, then accept it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    client = socket.create_connection(listener.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    async with connections(listener) as accepted:
        await eventually(lambda: bool(accepted))
        assert accepted[0].server is not None
        assert accepted[0].client is None

"""tests.support.listener: whenever a server closes, no connection is left to the garbage collector, and failures are raised."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream
from tests.support.listener import serve_streams
from tests.support.unclosed import warnings_of
from tests.support.websocket_peer import Peer, socket_server

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
TURNS = pytest.mark.parametrize("turns", range(8))


@LOOPS
@TURNS
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_server_closes_connections_of_every_age(loop: Loop, turns: int, secure: bool, certificates: Certificates) -> None:
    async def wait_for_the_end(peer: Peer) -> None:
        await peer.ended()

    async def serve_for_some_turns() -> None:
        context = certificates.server_context() if secure else None
        up = FaultUpstream(tls="good" if secure else None, certificates=certificates)
        async with socket_server(wait_for_the_end, context) as server, up:
            clients.extend(socket.create_connection(("127.0.0.1", port)) for port in (server.port, server.port, up.port, up.port))
            for client in clients[::2]:
                client.send(b"GET / HTTP/1.1\r\n\r\n")
            for _ in range(turns):
                await asyncio.sleep(0)

    clients: list[socket.socket] = []
    found = warnings_of(serve_for_some_turns, loop)
    for client in clients:
        client.close()
    assert found == []


@LOOPS
def test_a_failure_of_a_handler_is_raised_and_a_lost_connection_is_none(loop: Loop) -> None:
    async def read_or_fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = await reader.readexactly(1)
        done.set()
        raise ValueError(number)

    async def send(data: bytes) -> None:
        done.clear()
        async with serve_streams(read_or_fail) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(data)
            writer.close()
            if data:
                await done.wait()

    done = asyncio.Event()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(send(b""))
        with pytest.raises(ValueError, match="7"):
            runner.run(send(b"7"))


@LOOPS
def test_each_piece_is_sent_at_once(loop: Loop) -> None:
    """Else a small piece after another waits for an acknowledgement, 40 ms on Linux, and a reset in between loses it."""

    async def note_option(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        options.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        done.set()

    async def connect() -> None:
        async with serve_streams(note_option) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await done.wait()
            writer.close()

    options: list[int] = []
    done = asyncio.Event()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(connect())
    assert [bool(option) for option in options] == [True]

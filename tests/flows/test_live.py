"""tests.flows.live: a gateway that stops leaves no connection to the garbage collector, whatever turn of the loop it arrives in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from tests.flows.live import Live, live
from tests.support.unclosed import warnings_of

YAML = "providers: { up: { type: openai-compatible, base_url: 'http://127.0.0.1:9/v1' } }\nmodels: { m: up/mock }\n"
GET = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def connect_in_every_turn(gateway: Live, request: bytes, clients: list[socket.socket]) -> None:
    """Connect to both listeners in each turn of the loop until they refuse connections."""
    ports = [int(url.rsplit(":", 1)[1]) for url in (gateway.url, gateway.admin_url)]
    while ports:
        await asyncio.sleep(0)
        for port in list(ports):
            client = socket.socket()
            clients.append(client)
            try:
                client.connect(("127.0.0.1", port))
                client.send(request)
            except OSError:
                ports.remove(port)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("request_sent", [b"", GET], ids=["idle", "calling"])
def test_a_gateway_that_stops_closes_connections_of_every_age(loop: Callable[[], asyncio.AbstractEventLoop], request_sent: bytes) -> None:
    async def serve_while_callers_connect() -> None:
        async with live(YAML) as gateway:
            connecting = asyncio.create_task(connect_in_every_turn(gateway, request_sent, clients))
            await asyncio.sleep(0)
        await connecting

    clients: list[socket.socket] = []
    found = warnings_of(serve_while_callers_connect, loop)
    for client in clients:
        client.close()
    assert found == []

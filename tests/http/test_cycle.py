"""One request and its response on a caller's connection, with applications that use ASGI in every allowed way or break its rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.formats import Address
from gateway.http.connection import KEEP_ALIVE_S, CallerConnection
from gateway.http.cycle import RequestCycle
from gateway.http.listener import Server, bind, make_server
from tests.faults.client import FaultClient
from tests.flows.live import eventually
from tests.support.turns import sleep_in_turns

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GET = b"GET /thing?a=%20b HTTP/1.1\r\nhost: x\r\n\r\n"


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


@asynccontextmanager
async def served(app: App, servers: list[Server] | None = None) -> AsyncIterator[FaultClient]:
    """Yield a connection to a server of this application. The server is appended to `servers`."""
    with bind(Address("127.0.0.1", 0)) as listener:
        port, server = listener.getsockname()[1], make_server(app, grace=1)
        task = asyncio.create_task(server.serve([listener]))
        await eventually(lambda: server.started)
        if servers is not None:
            servers.append(server)
        async with await FaultClient.connect(port) as client:
            yield client
        server.should_exit = True
        await task


async def exchange(client: FaultClient, request: bytes) -> bytes:
    """Return everything received until the connection closes."""
    await client.send(request)
    response = b""
    while data := await client.read_some():
        response += data
    return response


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start((b"content-length", b"5")))
    await send(piece(b"hello"))


async def in_pieces(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start((b"x-path", scope["path"].encode()), (b"x-query", scope["query_string"])))
    for body in (b"one", b"", b"two"):
        await send(piece(body, more=True))
    await send(piece(b"three"))


async def test_a_head_and_a_short_body_go_out_together() -> None:
    async with served(hello) as client:
        await client.send(GET)
        first = await client.read_some()
    assert first.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert first.endswith(b"\r\n\r\nhello")


async def test_a_response_of_unknown_length_is_chunked_and_keeps_the_connection() -> None:
    async with served(in_pieces) as client:
        for _ in range(2):
            await client.send(GET)
            answer = await client.answer()
            assert (answer.body, answer.complete) == (b"onetwothree", True)
            assert (answer.header("x-path"), answer.header("x-query")) == ("/thing", "a=%20b")


async def test_http_1_0_gets_no_chunks_and_the_connection_is_closed() -> None:
    async with served(in_pieces) as client:
        response = await exchange(client, b"GET / HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in response
    assert b"connection: close\r\n" in response
    assert response.endswith(b"\r\n\r\nonetwothree")


@pytest.mark.parametrize("app", [hello, in_pieces])
async def test_a_head_request_gets_no_body(app: App) -> None:
    async with served(app) as client:
        response = await exchange(client, b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"\r\n\r\n")
    assert response.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0b"])
async def test_a_header_with_a_line_break_is_never_sent(value: bytes) -> None:
    async def split(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"x-named", value), (b"content-length", b"0")))
        await send(piece(b""))

    async with served(split) as client:
        response = await exchange(client, GET)
    assert b"x-named" not in response
    assert b"set-cookie" not in response


@pytest.mark.parametrize("body", [b"four", b"sixsix"])
async def test_a_response_that_breaks_its_content_length_closes_the_connection(body: bytes) -> None:
    async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"content-length", b"5")))
        await send(piece(body))

    async with served(wrong) as client:
        assert body not in await exchange(client, GET)


async def test_an_application_error_is_a_500_and_closes_the_connection() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("not shown to the caller")

    async with served(broken) as client:
        response = await exchange(client, GET)
    assert response.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"not shown" not in response


async def test_an_application_error_in_the_middle_leaves_the_response_incomplete() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"half", more=True))
        raise LookupError

    async with served(broken) as client:
        assert (await exchange(client, GET)).endswith(b"\r\n\r\n4\r\nhalf\r\n")


async def test_a_large_body_follows_its_head() -> None:
    body = bytes(range(256)) * 4096

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"content-length", b"%d" % len(body))))
        await send(piece(body))

    async with served(large) as client:
        await client.send(GET)
        assert (await client.answer()).body == body


async def test_a_large_request_body_arrives_whole_and_then_a_disconnect_is_reported() -> None:
    received: list[str] = []

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send(start((b"x-size", b"%d" % size), (b"content-length", b"0")))
        await send(piece(b""))
        received.append((await receive())["type"])

    async with served(echo) as client:
        body = b"x" * 1_000_000
        for _ in range(2):
            await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
            for at in range(0, len(body), 70_000):
                await client.send(body[at : at + 70_000])
            assert (await client.answer()).header("x-size") == str(len(body))
    assert received == ["http.disconnect"] * 2


async def test_a_disconnect_is_reported_and_later_sends_are_discarded() -> None:
    received: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        kind = (await receive())["type"]
        await send(start())
        await send(piece(b"late"))
        received.set_result(kind)

    async with served(waits) as client:
        await client.send(GET)
        await sleep_in_turns(0.05)
        client.rst()
        assert await asyncio.wait_for(received, 10) == "http.disconnect"


async def test_an_idle_connection_is_closed_after_the_keep_alive_time() -> None:
    servers: list[Server] = []
    async with served(hello, servers) as client:
        await client.send(GET)
        assert (await client.answer()).body == b"hello"
        (connection,) = servers[0].server_state.connections
        assert isinstance(connection, CallerConnection)
        connection.close_if_overdue(time.monotonic() + KEEP_ALIVE_S - 5, 10)
        await client.send(GET)
        assert (await client.answer()).body == b"hello"
        connection.close_if_overdue(time.monotonic() + KEEP_ALIVE_S + 5, 10)
        await client.until_closed()


def test_head_and_body_of_a_complete_response_are_one_write() -> None:
    written: list[bytes] = []
    transport = SimpleNamespace(write=written.append, is_closing=lambda: False, close=lambda: written.append(b"closed"))
    state = SimpleNamespace(default_headers=[(b"server", b"x")])
    connection: Any = SimpleNamespace(
        transport=transport, flow=SimpleNamespace(write_paused=False), server_state=state, on_response_complete=lambda: None
    )
    cycle = RequestCycle(connection, {"method": "GET", "http_version": "1.1"}, keep_alive=True, expects_continue=False)
    assert cycle.try_respond(200, [(b"content-length", b"2")], b"ok")
    assert written == [b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 2\r\n\r\nok"]
    assert not cycle.try_respond(200, [(b"content-length", b"2")], b"ok")

"""Sockets are connected without a task if they have one address, and closed if the attempt fails."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

import pytest

from benchmarks.ports import free_port
from gateway.upstream.connect import connect_before
from gateway.upstream.deadlines import Ticker
from gateway.upstream.resolver import Address
from tests.faults.upstream_server import full_backlog


def at(port: int) -> list[Address]:
    """Return an address on this host."""
    return [(socket.AF_INET, ("127.0.0.1", port))]


def open_sockets() -> set[str]:
    """Return the sockets of this process."""
    with os.scandir("/proc/self/fd") as entries:
        return {name for entry in entries if (name := _target(entry.path)).startswith("socket:")}


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # the descriptor of the directory itself
        return ""


async def test_one_address_is_connected_without_a_task() -> None:
    loop, started = asyncio.get_running_loop(), list[object]()

    def start(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        started.append(work)
        return asyncio.Task(work, loop=loop, **options)

    loop.set_task_factory(start)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connect_before(Ticker(time.monotonic), time.monotonic() + 20, at(listener.getsockname()[1]))
        with sock, listener.accept()[0] as accepted:
            assert sock.getsockname() == accepted.getpeername()
            assert not sock.getblocking()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    loop.set_task_factory(None)
    assert started == []


async def test_a_refusal_is_an_error_with_its_reason() -> None:
    port, before = free_port(), open_sockets()
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        await connect_before(Ticker(time.monotonic), time.monotonic() + 5, at(port))
    assert open_sockets() <= before


async def test_an_attempt_ends_at_its_deadline() -> None:
    now = [0.0]
    ticker = Ticker(lambda: now[0])
    with full_backlog() as port:
        before = open_sockets()
        connecting = asyncio.ensure_future(connect_before(ticker, 1.0, at(port)))
        await asyncio.sleep(0.1)
        assert not connecting.done()
        now[0] = 1.0
        with pytest.raises(TimeoutError):
            await connecting
        assert open_sockets() <= before
    ticker.stop()


async def test_a_cancelled_attempt_closes_its_socket() -> None:
    ticker = Ticker(time.monotonic)
    with full_backlog() as port:
        before = open_sockets()
        connecting = asyncio.ensure_future(connect_before(ticker, time.monotonic() + 60, at(port)))
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert open_sockets() <= before
    ticker.stop()


async def test_a_server_that_accepts_later_is_connected_then() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address):  # fills the backlog
            connecting = asyncio.ensure_future(connect_before(Ticker(time.monotonic), time.monotonic() + 20, at(address[1])))
            await asyncio.sleep(0)
            listener.accept()[0].close()
            with await connecting as sock:  # the kernel repeats its first packet after a second
                assert sock.getpeername() == address

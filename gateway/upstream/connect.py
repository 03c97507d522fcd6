"""Connects sockets: to one address without a task, or to the fastest of several addresses (RFC 8305).

The connection methods of the event loop are not used. `sock_connect` of uvloop looks up the address in a thread, even an IP address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from gateway.upstream.deadlines import Ticker, finish_before
from gateway.upstream.resolver import Address

RECEIVE_WINDOW_BYTES = 256 << 10
"""Receive window of a socket: bytes that the kernel buffers for a stream whose caller reads slowly."""
NEXT_ADDRESS_DELAY_S = 0.25
"""Seconds after which the next address is tried in parallel (RFC 8305, section 5)."""
_PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)


class _Attempt:
    """A connection that is being opened until a deadline."""

    __slots__ = ("connected", "deadline")

    def __init__(self, deadline: float, connected: asyncio.Future[None]) -> None:
        self.deadline = deadline
        self.connected = connected

    def expire(self, now: float) -> None:
        self.deadline = float("inf")
        if not self.connected.done():
            self.connected.set_exception(TimeoutError())


async def connect_before(ticker: Ticker, deadline: float, addresses: Sequence[Address]) -> socket.socket:
    """Return a socket connected to the address that accepts first.

    Raise TimeoutError once `deadline`, a time on the ticker's clock, has passed, and OSError if no address accepts.
    """
    if len(addresses) > 1:
        return await finish_before(ticker, deadline, _connect_fastest(addresses), socket.socket.close)
    sock, is_connected = _begin(addresses[0])
    if is_connected:
        return sock
    attempt = _Attempt(deadline, asyncio.get_running_loop().create_future())
    ticker.watch(attempt)
    try:
        return await _finish(sock, attempt.connected)
    finally:
        ticker.forget(attempt)


async def _connect_fastest(addresses: Sequence[Address]) -> socket.socket:
    """Return a socket connected to the address that accepts first.

    Each further address is tried after NEXT_ADDRESS_DELAY_S, or as soon as an earlier attempt fails.
    """
    left = list(addresses)
    tasks: list[asyncio.Task[socket.socket]] = []
    winner: asyncio.Task[socket.socket] | None = None
    failure: OSError = OSError("no address")
    pending: set[asyncio.Task[socket.socket]] = set()
    try:
        while left or pending:
            if left:
                tasks.append(asyncio.ensure_future(_connect(left.pop(0))))
                pending.add(tasks[-1])
            done, pending = await asyncio.wait(pending, timeout=NEXT_ADDRESS_DELAY_S if left else None, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for task in tasks:
            if task is not winner:
                _discard(task)


def _discard(task: asyncio.Task[socket.socket]) -> None:
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(address: Address) -> socket.socket:
    sock, is_connected = _begin(address)
    return sock if is_connected else await _finish(sock, asyncio.get_running_loop().create_future())


def _begin(address: Address) -> tuple[socket.socket, bool]:
    """Return a socket that is being connected, and whether the connection is open. Raise OSError if it was refused at once."""
    family, target = address
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # the transport sets TCP_NODELAY
        with contextlib.suppress(OSError):  # some kernels lack this option
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, RECEIVE_WINDOW_BYTES)
        error = sock.connect_ex(target)
        if error == errno.EINPROGRESS:
            error = sock.connect_ex(target)  # reports the result: a server on this host has accepted before the first call returned
        if error not in (0, errno.EISCONN, *_PENDING):
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock, error in (0, errno.EISCONN)


async def _finish(sock: socket.socket, connected: asyncio.Future[None]) -> socket.socket:
    """Return the socket once it is connected. Raise the error of `connected`, or OSError, and close the socket on failure."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_writer(sock, _report, sock, connected)
        try:
            await connected
        finally:
            loop.remove_writer(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _report(sock: socket.socket, connected: asyncio.Future[None]) -> None:
    if connected.done():
        return
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        connected.set_exception(OSError(error, os.strerror(error)))
    else:
        connected.set_result(None)

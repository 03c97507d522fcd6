"""The httpx transport's way to addresses: our resolver finds them, and those that may not be called are not called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore
import httpx

from gateway.upstream.resolver import Address, Resolver, literal_address


class BlockedAddressError(httpcore.ConnectError):
    """A name leads to addresses that may not be called."""


class CheckedNetworkBackend(httpcore.AsyncNetworkBackend):
    """httpcore's own connections, to addresses that were looked at first: what is checked is what is connected to."""

    def __init__(self, resolver: Resolver, is_allowed: Callable[[str], bool]) -> None:
        """`permit`: may this address be called?"""
        self._resolver = resolver
        self._is_allowed = is_allowed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that answers, one after another within the time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (timeout if timeout is not None else 3600.0)
        addresses = await self._resolve(host, port, until)
        for at, (_, address) in enumerate(addresses):
            try:
                share = max(0.001, until - loop.time()) / (len(addresses) - at)
                return await self._inner.connect_tcp(address[0], port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if at == len(addresses) - 1:
                    self._resolver.forget(host, port)
                    raise
        raise httpcore.ConnectError(f"{host} has no address")

    async def _resolve(self, host: str, port: int, until: float) -> Sequence[Address]:
        found: Sequence[Address] | None = literal_address(host, port)
        if found is None:
            try:
                async with asyncio.timeout_at(until):
                    found = await self._resolver.resolve(host, port)
            except TimeoutError as error:
                raise httpcore.ConnectError("no address in time") from socket.gaierror(str(error))
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from socket.gaierror(str(error))
        allowed = [one for one in found if self._is_allowed(one[1][0])]
        if found and not allowed:
            raise BlockedAddressError(f"{host} resolves to addresses that may not be called")
        return allowed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A socket's path names no host."""
        return await self._inner.connect_unix_socket(path, timeout, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Between httpcore's own retries, which are off."""
        await self._inner.sleep(seconds)


class CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport without a proxy, over a CheckedBackend. (A proxy finds the address itself, out of our sight.)"""

    def __init__(self, backend: CheckedNetworkBackend, *, http2: bool, uds: str | None, limits: httpx.Limits, verify: Any) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(  # the constructor takes no backend; nothing was opened by the pool it made
            ssl_context=verify,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http2=http2,
            uds=uds,
            network_backend=backend,
        )

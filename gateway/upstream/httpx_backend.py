"""Connections of the httpx transport: they use the gateway's resolver and refuse blocked addresses."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore
import httpx

from gateway.upstream.interim import MAX_INTERIM, HeadersFrames, InterimHeads, TooManyInterimError
from gateway.upstream.resolver import Address, Resolver, literal_address


class BlockedAddressError(httpcore.ConnectError):
    """A name resolves only to blocked addresses."""


class InterimLimitError(httpcore.RemoteProtocolError):
    """A server sent too many interim responses."""


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection that fails if its server sends too many interim responses."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        ssl_object = inner.get_extra_info("ssl_object")
        is_http2 = ssl_object is not None and ssl_object.selected_alpn_protocol() == "h2"
        self._heads: InterimHeads | None = None if is_http2 else InterimHeads()
        self._frames = HeadersFrames() if is_http2 else None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        """Return the next bytes. Raise InterimLimitError if they contain too many interim responses."""
        data = await self._inner.read(max_bytes, timeout)
        counter = self._heads or self._frames
        assert counter is not None
        try:
            counter.feed(data)
        except TooManyInterimError:
            raise InterimLimitError(f"more than {MAX_INTERIM} interim responses") from None
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        """Send bytes."""
        if self._heads is not None:
            self._heads.begin()
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Return the connection with TLS."""
        return BoundedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return information about the connection, such as its socket."""
        return self._inner.get_extra_info(info)


class CheckedNetworkBackend(httpcore.AsyncNetworkBackend):
    """httpcore's own backend, except that it connects only to addresses that were resolved and checked here."""

    def __init__(self, resolver: Resolver, is_allowed: Callable[[str], bool]) -> None:
        """`is_allowed` decides whether connections to an address are allowed."""
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
        """Connect to the addresses one after another within the timeout, and return the first connection."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout if timeout is not None else 3600.0)
        addresses = await self._resolve(host, port, deadline)
        for index, (_, address) in enumerate(addresses):
            try:
                share = max(0.001, deadline - loop.time()) / (len(addresses) - index)
                return BoundedStream(await self._inner.connect_tcp(address[0], port, share, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if index == len(addresses) - 1:
                    self._resolver.forget(host, port)
                    raise
        raise httpcore.ConnectError(f"{host} has no address")

    async def _resolve(self, host: str, port: int, deadline: float) -> Sequence[Address]:
        addresses: Sequence[Address] | None = literal_address(host, port)
        if addresses is None:
            try:
                async with asyncio.timeout_at(deadline):
                    addresses = await self._resolver.resolve(host, port)
            except TimeoutError as error:
                raise httpcore.ConnectError("name resolution timed out") from socket.gaierror(str(error))
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from socket.gaierror(str(error))
        allowed = [address for address in addresses if self._is_allowed(address[1][0])]
        if addresses and not allowed:
            raise BlockedAddressError(f"{host} resolves only to blocked addresses")
        return allowed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a unix socket. A unix socket has no name to resolve or check."""
        return BoundedStream(await self._inner.connect_unix_socket(path, timeout, socket_options))

    async def sleep(self, seconds: float) -> None:
        """Wait between httpcore's own retries, which are turned off."""
        await self._inner.sleep(seconds)


class CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport for connections without a proxy, on a CheckedNetworkBackend.

    A proxy resolves names itself, so their addresses cannot be checked.
    """

    def __init__(self, backend: CheckedNetworkBackend, *, http2: bool, uds: str | None, limits: httpx.Limits, verify: Any) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(  # replaces the constructor's pool: the constructor has no parameter for a backend
            ssl_context=verify,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http2=http2,
            uds=uds,
            network_backend=backend,
        )


class ProxyNetworkBackend(httpcore.AnyIOBackend):
    """httpcore's own backend for connections to proxies, with bounded streams."""

    async def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect to a proxy."""
        return BoundedStream(await super().connect_tcp(*arguments, **named))


class ProxyTransport(httpx.AsyncHTTPTransport):
    """httpx's transport for connections through a proxy, on a ProxyNetworkBackend."""

    def __init__(self, proxy: httpx.Proxy, *, http2: bool, limits: httpx.Limits, verify: Any) -> None:
        super().__init__(verify=verify, http2=http2, proxy=proxy, limits=limits, trust_env=False)
        self._pool._network_backend = ProxyNetworkBackend()  # the constructor has no parameter for a backend

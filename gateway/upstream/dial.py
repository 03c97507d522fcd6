"""Opens connections: resolves the name, connects to the fastest address (gateway.upstream.connect), then performs the TLS handshake.

With a proxy, the connection to the proxy is opened in the same way, then the proxy opens a tunnel to the upstream.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

from gateway.upstream.connect import connect_before
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.deadlines import Ticker, finish_before
from gateway.upstream.proxy_tunnel import Proxy, ProxyConnection, ProxyDestination, open_tunnel, read_proxy
from gateway.upstream.resolver import Address, Resolver, literal_address
from gateway.upstream.tls import TlsContexts, alert_of
from gateway.upstream.transport import Deadlines, Origin, UpstreamError, in_seconds
from gateway.upstream.websocket import UpstreamSocket

C = TypeVar("C", UpstreamConnection, UpstreamSocket, ProxyConnection)
C_co = TypeVar("C_co", covariant=True)


class Destination(Protocol[C_co]):
    """A pool, or the destination of one connection."""

    origin: Origin
    ticker: Ticker

    def new_connection(self) -> C_co:
        """Return a connection that has no socket yet."""
        ...


class Dialer:
    """Opens connections. `is_allowed` decides whether connections to an address are allowed."""

    def __init__(self, resolver: Resolver, is_allowed: Callable[[str], bool] | None) -> None:
        self._resolver = resolver
        self._is_allowed = is_allowed
        self.contexts = TlsContexts()

    async def dial(self, pool: Destination[C], deadlines: Deadlines, total: float) -> C:
        """Open a connection to the origin of `pool`. On failure, raise an UpstreamError that names the failed step."""
        origin, ticker = pool.origin, pool.ticker
        deadline = min(ticker.clock() + deadlines.connect, total)
        if origin.socket is not None:
            return await self._dial_unix(pool, origin.socket, deadline)
        addresses = await self._resolve(pool, deadline, deadlines)
        try:
            sock = await connect_before(ticker, deadline, addresses)
        except TimeoutError:
            self._resolver.forget(origin.host, origin.port)
            reason = f"no connection to {origin.host}:{origin.port} within {in_seconds(deadlines.connect)}"
            raise UpstreamError("connect_timeout", reason) from None
        except OSError as error:
            self._resolver.forget(origin.host, origin.port)
            raise UpstreamError("connect", f"cannot connect to {origin.host}:{origin.port}: {_reason(error)}") from None
        try:
            if origin.scheme == "https":
                return await self._secure(pool, lambda context: _adopt(pool, sock, context), deadlines, total)
            return await _adopt(pool, sock, None)
        except BaseException:
            sock.close()
            raise

    async def dial_through_proxy(
        self, pool: Destination[UpstreamSocket], url: str, deadlines: Deadlines, total: float
    ) -> UpstreamSocket:
        """Open a connection to the origin of `pool` through the proxy at `url`. On failure, raise an UpstreamError.

        The proxy has the time `connect` to open the tunnel, after the connection to the proxy is open.
        """
        origin, ticker, proxy = pool.origin, pool.ticker, read_proxy(url)
        self._check_literal(origin)
        outer = await self.dial(ProxyDestination(proxy, ticker, origin.tls.ca), deadlines, total)
        try:
            deadline = min(ticker.clock() + deadlines.connect, total)
            await _open_tunnel(ticker, deadline, outer, proxy, origin, deadlines)
            transport = outer.hand_over()
            if origin.scheme == "https":
                return await self._secure(pool, lambda context: _adopt_tls_tunnel(pool, transport, context), deadlines, total)
            return _adopt_tunnel(pool, transport)
        except BaseException:
            outer.abort()
            raise

    def _check_literal(self, origin: Origin) -> None:
        """Refuse a blocked address. A proxy resolves names itself, so the addresses of names cannot be checked."""
        addresses = literal_address(origin.host, origin.port) or ()
        if self._is_allowed is not None and any(not self._is_allowed(address[0]) for _, address in addresses):
            raise UpstreamError("blocked", f"{origin.host} is a blocked address")

    async def _resolve(self, pool: Destination[C], deadline: float, deadlines: Deadlines) -> Sequence[Address]:
        origin = pool.origin
        addresses: Sequence[Address] | None = literal_address(origin.address or origin.host, origin.port)
        if addresses is None:
            try:
                addresses = await finish_before(pool.ticker, deadline, self._resolver.resolve(origin.host, origin.port))
            except TimeoutError:
                raise UpstreamError("dns", f"{origin.host} was not resolved within {in_seconds(deadlines.connect)}") from None
            except OSError as error:
                raise UpstreamError("dns", f"cannot resolve {origin.host}: {_reason(error)}") from None
        if not addresses:
            raise UpstreamError("dns", f"{origin.host} has no address")
        if self._is_allowed is not None:
            addresses = [address for address in addresses if self._is_allowed(address[1][0])]
            if not addresses:
                raise UpstreamError("blocked", f"{origin.host} resolves only to blocked addresses")
        return interleave(addresses) if len(addresses) > 1 else addresses

    async def _secure(
        self,
        pool: Destination[C],
        adopt: Callable[[ssl.SSLContext], Coroutine[Any, Any, C]],
        deadlines: Deadlines,
        total: float,
    ) -> C:
        origin, ticker = pool.origin, pool.ticker
        try:
            context = await self.contexts.get(origin.tls)
            deadline = min(ticker.clock() + deadlines.tls, total)
            return await finish_before(ticker, deadline, adopt(context), _abort)
        except TimeoutError:
            raise UpstreamError("tls_timeout", f"no TLS handshake with {origin.host} within {in_seconds(deadlines.tls)}") from None
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or alert_of(error) or error.reason or "handshake failed"
            raise UpstreamError("tls", f"TLS with {origin.host} failed: {reason}") from None
        except OSError as error:
            raise UpstreamError("tls", f"TLS with {origin.host} failed: {_reason(error)}") from None

    async def _dial_unix(self, pool: Destination[C], path: str, deadline: float) -> C:
        try:
            return await finish_before(pool.ticker, deadline, _adopt_unix(pool, path), _abort)
        except TimeoutError:
            raise UpstreamError("connect_timeout", f"no connection to the unix socket {path} in time") from None
        except OSError as error:
            raise UpstreamError("connect", f"cannot connect to the unix socket {path}: {_reason(error)}") from None


async def _adopt(pool: Destination[C], sock: socket.socket, context: ssl.SSLContext | None) -> C:
    """Return a connection on a connected socket, after the TLS handshake if `context` is given."""
    connection = pool.new_connection()
    name = pool.origin.host if context is not None else None
    try:
        await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=name)
    except BaseException:
        connection.abort()
        raise
    return connection


async def _open_tunnel(
    ticker: Ticker, deadline: float, connection: ProxyConnection, proxy: Proxy, origin: Origin, deadlines: Deadlines
) -> None:
    try:
        await finish_before(ticker, deadline, open_tunnel(connection, proxy, origin))
    except TimeoutError:
        reason = f"the proxy {proxy.name} opened no connection to {origin.host}:{origin.port} within {in_seconds(deadlines.connect)}"
        raise UpstreamError("connect_timeout", reason) from None


def _adopt_tunnel(pool: Destination[UpstreamSocket], transport: asyncio.Transport) -> UpstreamSocket:
    """Return a connection on an open tunnel."""
    connection = pool.new_connection()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    transport.resume_reading()
    return connection


async def _adopt_tls_tunnel(
    pool: Destination[UpstreamSocket], transport: asyncio.Transport, context: ssl.SSLContext
) -> UpstreamSocket:
    """Return a connection on an open tunnel after the TLS handshake with the upstream."""
    connection = pool.new_connection()
    try:
        secured = await asyncio.get_running_loop().start_tls(transport, connection, context, server_hostname=pool.origin.host)
        assert secured is not None
        connection.connection_made(secured)  # `start_tls` does not call it
    except BaseException:
        connection.abort()
        raise
    return connection


def _abort(connection: C) -> None:
    connection.abort()


async def _adopt_unix(pool: Destination[C], path: str) -> C:
    connection = pool.new_connection()
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, path)
    except BaseException:
        connection.abort()
        raise
    return connection


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Return the addresses with alternating families, starting with the family of the first address (RFC 8305, section 4)."""
    first = addresses[0][0]
    same = [address for address in addresses if address[0] == first]
    other = [address for address in addresses if address[0] != first]
    return [address for pair in zip_longest(same, other) for address in pair if address is not None]


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__

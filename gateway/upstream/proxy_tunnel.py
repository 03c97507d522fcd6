"""Tunnels through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6), and SOCKS 5 (RFC 1928), also with a password (RFC 1929).

The proxy resolves the name of the upstream. Errors contain the address of the proxy but not its credentials.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from ipaddress import ip_address
from typing import NamedTuple, cast
from urllib.parse import unquote, urlsplit

from gateway.upstream.deadlines import Ticker
from gateway.upstream.interim import MAX_INTERIM
from gateway.upstream.transport import Origin, TlsFiles, UpstreamError

MAX_HEAD_BYTES = 64 << 10
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r\n)")
_PROXY_AUTHENTICATION_REQUIRED = 407
_SOCKS_VERSION, _PASSWORD_VERSION = 5, 1
_NO_CREDENTIALS, _PASSWORD = 0, 2
_SOCKS_ADDRESS_BYTES = {1: 4, 4: 16}
_SOCKS_REPLIES = {
    1: "general failure", 2: "not allowed by the rules", 3: "network unreachable", 4: "host unreachable", 5: "connection refused",
    6: "time exceeded", 7: "command not supported", 8: "address type not supported",
}  # fmt: skip


class Proxy(NamedTuple):
    """The parts of a proxy's URL. `username` is None if the URL has no credentials."""

    scheme: str
    host: str
    port: int
    username: str | None
    password: str

    @property
    def name(self) -> str:
        """The address, for messages."""
        return f"{self.host}:{self.port}"


def read_proxy(url: str) -> Proxy:
    """Return the parts of a proxy's URL."""
    parts = urlsplit(url)
    username = unquote(parts.username) if parts.username is not None else None
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return Proxy(parts.scheme, parts.hostname or "", port, username, unquote(parts.password or ""))


class ProxyConnection(asyncio.Protocol):
    """A connection to a proxy until the tunnel is open. Received bytes are kept until they are read."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._has_ended = False
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of the connected socket."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes."""
        self._received += data
        self._wake()

    def eof_received(self) -> None:
        """Record that nothing more will arrive."""
        self._has_ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that nothing more will arrive."""
        self.eof_received()

    def write(self, data: bytes) -> None:
        """Send bytes to the proxy."""
        assert self.transport is not None
        self.transport.write(data)

    async def read(self, size: int) -> bytes:
        """Return the next `size` bytes. Raise UpstreamError if the proxy closes the connection first."""
        while len(self._received) < size:
            await self._receive()
        return self._take(size)

    async def read_head(self) -> bytes:
        """Return the head of an HTTP response. Raise UpstreamError if it is incomplete or too large."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                raise UpstreamError("protocol", "the proxy's response is too large")
            await self._receive()
        return self._take(end + 4)

    def hand_over(self) -> asyncio.Transport:
        """Return the transport for another protocol, which must resume reading. Raise UpstreamError if the tunnel is unusable."""
        assert self.transport is not None
        if self._received:  # an upstream sends nothing before it has received the handshake
            raise UpstreamError("protocol", "the proxy sent surplus bytes after its response")
        if self._has_ended or self.transport.is_closing():
            raise UpstreamError("connect", "the proxy closed the connection as soon as the tunnel was open")
        self.transport.pause_reading()
        return self.transport

    def abort(self) -> None:
        """Close the socket at once."""
        if self.transport is not None:
            self.transport.abort()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _receive(self) -> None:
        if self._has_ended:
            raise UpstreamError("connect", "the proxy closed the connection before its response was complete")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ProxyDestination:
    """The destination of one connection to a proxy, as the dialer uses it."""

    def __init__(self, proxy: Proxy, ticker: Ticker, ca: str | None) -> None:
        """`ca` is a file with certificate authorities for a proxy with TLS."""
        self.origin = Origin("https" if proxy.scheme == "https" else "http", proxy.host, proxy.port, tls=TlsFiles(ca))
        self.ticker = ticker

    def new_connection(self) -> ProxyConnection:
        """Return a connection that has no socket yet."""
        return ProxyConnection()


async def open_tunnel(connection: ProxyConnection, proxy: Proxy, origin: Origin) -> None:
    """Let the proxy connect to the upstream. Raise UpstreamError on failure."""
    if proxy.scheme.startswith("socks"):
        await _open_socks_tunnel(connection, proxy, origin)
    else:
        await _open_http_tunnel(connection, proxy, origin)


async def _open_http_tunnel(connection: ProxyConnection, proxy: Proxy, origin: Origin) -> None:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    lines = [f"CONNECT {host}:{origin.port} HTTP/1.1", f"host: {host}:{origin.port}"]
    if proxy.username is not None:
        credentials = b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        lines.append(f"proxy-authorization: Basic {credentials}")
    connection.write("\r\n".join([*lines, "", ""]).encode())
    status, responses = 100, 0
    while status < 200:
        responses += 1
        if responses > MAX_INTERIM + 1:
            raise UpstreamError("protocol", f"the proxy {proxy.name} sent more than {MAX_INTERIM} interim responses")
        match = _STATUS_LINE.match(await connection.read_head())
        if match is None:
            raise UpstreamError("protocol", f"the response of the proxy {proxy.name} is not valid HTTP")
        status = int(match[1])
    if status == _PROXY_AUTHENTICATION_REQUIRED:
        reason = "requires credentials (status 407)" if proxy.username is None else "refused the credentials (status 407)"
        raise UpstreamError("connect", f"the proxy {proxy.name} {reason}")
    if status >= 300:
        raise UpstreamError("connect", f"the proxy {proxy.name} refused a connection to {host}:{origin.port} (status {status})")


async def _open_socks_tunnel(connection: ProxyConnection, proxy: Proxy, origin: Origin) -> None:
    method = _NO_CREDENTIALS if proxy.username is None else _PASSWORD
    connection.write(bytes((_SOCKS_VERSION, 1, method)))
    if tuple(await connection.read(2)) != (_SOCKS_VERSION, method):
        reason = "requires credentials" if proxy.username is None else "does not accept a user name and a password"
        raise UpstreamError("connect", f"the SOCKS proxy {proxy.name} {reason}")
    if proxy.username is not None:
        connection.write(bytes((_PASSWORD_VERSION,)) + _with_size(proxy.username) + _with_size(proxy.password))
        if (await connection.read(2))[1] != 0:
            raise UpstreamError("connect", f"the SOCKS proxy {proxy.name} refused the credentials")
    connection.write(bytes((_SOCKS_VERSION, 1, 0)) + _socks_address(origin.host) + origin.port.to_bytes(2))
    _, reply, _, kind = await connection.read(4)
    if reply != 0:
        reason = _SOCKS_REPLIES.get(reply, f"code {reply}")
        raise UpstreamError("connect", f"the SOCKS proxy {proxy.name} refused a connection to {origin.host}:{origin.port}: {reason}")
    size = _SOCKS_ADDRESS_BYTES.get(kind) or (await connection.read(1))[0]
    await connection.read(size + 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        return b"\x03" + _with_size(host)
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _with_size(text: str) -> bytes:
    content = text.encode()
    if len(content) > 255:
        raise UpstreamError("connect", "a host name, user name or password is too long for SOCKS")
    return bytes((len(content),)) + content

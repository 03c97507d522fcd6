"""The native HTTP/1.1 transport: asyncio protocols, httptools, one pool per origin, one timer for all deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.deadlines import Clock, Ticker
from gateway.upstream.dial import Dialer
from gateway.upstream.file_limit import affordable_connections
from gateway.upstream.pool import Pool
from gateway.upstream.request_head import HeadCache, encode_head, encode_upgrade_head, encode_upload_head, origin_part
from gateway.upstream.resolver import Resolver, ThreadResolver
from gateway.upstream.response import NativeResponse, StaleConnectionError
from gateway.upstream.stats import TransportStats
from gateway.upstream.transport import Deadlines, Origin, Upload, UpstreamError
from gateway.upstream.websocket import SocketDestination, UpstreamSocket
from providers.base import WireRequest

_NO_REQUEST = WireRequest("", [], b"")


class SentRequest(msgspec.Struct, frozen=True):
    """A request that was written to a connection, and the response that will arrive on it."""

    pool: Pool
    connection: UpstreamConnection
    request: WireRequest
    head: bytes
    response: NativeResponse

    def without_request(self) -> SentRequest:
        """Return the same without the request, which is not sent again. This frees its memory."""
        return msgspec.structs.replace(self, request=_NO_REQUEST, head=b"")


class NativeTransport:
    """HTTP/1.1 over TCP, TLS and unix sockets, without proxies, and WebSocket connections, with or without a proxy.

    A transport belongs to the event loop on which it first sends.

    `connections` is the maximum number of connections to each origin; by default, it follows from the limit on open files. `keepalive` is
    how long a connection may stay idle, in seconds. `resolver` and `clock` can be replaced in tests; `is_allowed`
    decides whether connections to an address are allowed.
    """

    def __init__(
        self,
        connections: int | None = None,
        keepalive: float = 60.0,
        resolver: Resolver | None = None,
        clock: Clock = time.monotonic,
        is_allowed: Callable[[str], bool] | None = None,
    ) -> None:
        self.stats = TransportStats()
        self.connections = connections if connections is not None else affordable_connections()
        self._keepalive = keepalive
        self._clock = clock
        self._ticker = Ticker(clock)
        self._dialer = Dialer(resolver or ThreadResolver(clock=clock), is_allowed)
        self._pools: dict[Origin, Pool] = {}
        self._sockets: set[UpstreamSocket] = set()

    async def send(
        self, origin: Origin, request: WireRequest, deadlines: Deadlines, upload: Upload | None = None
    ) -> NativeResponse:
        """Return the response once its head has arrived. Raise UpstreamError on failure.

        If a reused connection turns out to be closed, the request is sent once more on a new one, unless it has an
        upload with a body.
        """
        if upload is not None:
            return await self._send_upload(origin, request, deadlines, upload)
        pool = self._pools.get(origin) or self._open(origin)
        self._ticker.tune(deadlines)
        head = encode_head(request, pool.heads.lines)
        total = self._clock() + deadlines.total
        connection = pool.take_idle() or await pool.acquire(deadlines, total)
        response = NativeResponse(request.method, deadlines, total)
        request.written = True
        try:
            await connection.send(response, head, request.body)
        except StaleConnectionError:
            response = await self._resend(SentRequest(pool, connection, request, head, response))
        except BaseException:
            _abandon(pool, connection, response)
            raise
        response.waiter = None
        return response

    def begin(self, origin: Origin, request: WireRequest, deadlines: Deadlines, listener: Callable[[], None]) -> SentRequest | None:
        """Send a request on an idle connection, without waiting. Return None, and do nothing, if no connection is idle.

        `listener` is called when a part of the response arrives. Raise UpstreamError if the request cannot be encoded.
        """
        pool = self._pools.get(origin)
        if pool is None or not pool.idle:
            return None
        self._ticker.tune(deadlines)
        head = pool.heads.encode(request)
        connection = pool.take_idle()
        assert connection is not None
        response = NativeResponse(request.method, deadlines, self._clock() + deadlines.total)
        return _begin(SentRequest(pool, connection, request, head, response), listener)

    async def open(self, origin: Origin, request: WireRequest, deadlines: Deadlines, listener: Callable[[], None]) -> SentRequest:
        """Wait for a new or released connection, then do what `begin` does. Raise UpstreamError on failure."""
        pool = self._pools.get(origin) or self._open(origin)
        self._ticker.tune(deadlines)
        head = pool.heads.encode(request)
        response = NativeResponse(request.method, deadlines, self._clock() + deadlines.total)
        connection = await pool.acquire(deadlines, response.total)
        sent = _begin(SentRequest(pool, connection, request, head, response), listener)
        return sent if connection.served else sent.without_request()  # only a reused connection can be stale

    async def wait(self, sent: SentRequest) -> NativeResponse:
        """Return the response to a request sent with `begin` or `open`, as `send` does. The caller must have removed the listener."""
        response = sent.response
        try:
            if response.head_error is not None:
                raise response.head_error
            if not response.status:
                response.waiter = asyncio.get_running_loop().create_future()
                await response.waiter
        except StaleConnectionError:
            response = await self._resend(sent)
        except BaseException:
            _abandon(sent.pool, sent.connection, response)
            raise
        response.waiter = None
        return response

    async def _send_upload(
        self, origin: Origin, request: WireRequest, deadlines: Deadlines, upload: Upload
    ) -> NativeResponse:
        """Send a request with an upload; if the upload has a body, use a connection that the upstream has probably not closed."""
        pool = self._pools.get(origin) or self._open(origin)
        self._ticker.tune(deadlines)
        head = encode_upload_head(request, origin, upload)
        total = self._clock() + deadlines.total
        connection = await (pool.acquire_recent if upload.has_body else pool.acquire)(deadlines, total)
        while True:
            response = NativeResponse(request.method, deadlines, total, may_be_encoded=True)
            request.written = True
            try:
                await connection.send_upload(response, head, upload)
            except StaleConnectionError:
                if upload.has_body:
                    pool.drop(connection)
                    raise UpstreamError("closed_pre", "the upstream closed the connection without a response") from None
                pool.keep_slot(connection)
                self.stats.stale_retries += 1
                connection = await pool.connect(deadlines, total)
            except BaseException:
                _abandon(pool, connection, response)
                raise
            else:
                response.waiter = None
                return response

    async def open_socket(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> UpstreamSocket:
        """Return a new connection once the upstream has accepted or refused the WebSocket handshake. Raise UpstreamError on failure.

        With a proxy, the connection is a tunnel through it.
        """
        self._ticker.tune(deadlines)
        head = encode_upgrade_head(request, origin)
        destination = SocketDestination(origin, self._ticker, self._sockets.discard)
        total = self._clock() + deadlines.total
        if origin.proxy is None:
            socket = await self._dialer.dial(destination, deadlines, total)
        else:
            socket = await self._dialer.dial_through_proxy(destination, origin.proxy, deadlines, total)
        self._sockets.add(socket)
        try:
            await socket.open(request, head, deadlines)
        except BaseException:
            socket.abort()
            raise
        return socket

    async def aclose(self) -> None:
        """Close every connection and fail the waiting senders."""
        for socket in list(self._sockets):
            socket.abort()
        for pool in self._pools.values():
            pool.close()
        self._ticker.stop()

    def refresh(self) -> None:
        """Reread the files for TLS and drop the pools without connections. Call this after a reload."""
        self._dialer.contexts.refresh()
        self._pools = {origin: pool for origin, pool in self._pools.items() if pool.size or pool.waiting}

    @property
    def in_use(self) -> int:
        """Number of connections, over all origins, that are being opened or have an exchange in progress, plus the WebSockets."""
        return sum(pool.in_use for pool in self._pools.values()) + len(self._sockets)

    @property
    def idle(self) -> int:
        """Number of idle connections, over all origins."""
        return sum(len(pool.idle) for pool in self._pools.values())

    @property
    def waiting(self) -> int:
        """Number of senders that wait for a connection, over all origins."""
        return sum(pool.waiting for pool in self._pools.values())

    async def _resend(self, sent: SentRequest) -> NativeResponse:
        """Send a request once more, on a new connection that takes the slot of the closed one."""
        pool, request, deadlines, total = sent.pool, sent.request, sent.response.deadlines, sent.response.total
        pool.keep_slot(sent.connection)
        self.stats.stale_retries += 1
        connection = await pool.connect(deadlines, total)
        response = NativeResponse(request.method, deadlines, total)
        try:
            await connection.send(response, sent.head, request.body)
        except BaseException:
            _abandon(pool, connection, response)
            raise
        return response

    def _open(self, origin: Origin) -> Pool:
        if origin.proxy is not None or origin.scheme not in ("http", "https"):
            raise UpstreamError("connect", "the native transport supports http and https without a proxy")
        pool = Pool(origin, origin.connections or self.connections, self._keepalive, self._ticker, self._dialer.dial, self.stats)
        pool.heads = HeadCache(origin_part(origin))
        self._pools[origin] = pool
        return pool


def _begin(sent: SentRequest, listener: Callable[[], None]) -> SentRequest:
    """Write a request, and call `listener` whenever a part of its response arrives."""
    sent.response.listener = listener
    sent.request.written = True
    sent.connection.begin(sent.response, sent.head, sent.request.body)
    return sent


def _abandon(pool: Pool, connection: UpstreamConnection, response: NativeResponse) -> None:
    """Clean up after a sender that stopped waiting.

    The connection may already be serving another exchange, so it must be closed only by the response.
    """
    response.close()
    if connection.closed:
        pool.drop(connection)

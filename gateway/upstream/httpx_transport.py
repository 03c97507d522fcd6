"""The second transport, on httpx, for HTTP/2 and for requests through proxies, which the native transport does not support.

It keeps every guarantee of `Transport` except one: after many cancelled calls on a full pool, httpx 0.28 may lose slots
forever (encode/httpcore#1093), so it is used only where it is needed. HTTP/2 is offered to every https origin. HTTP/1.1
connections are not reused, because surplus bytes could reach the next caller. The `connect` deadline includes TLS.
Addresses are checked as in the native transport, unless a proxy resolves the name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx

from gateway.upstream.httpx_backend import BlockedAddressError, CheckedNetworkBackend, CheckedTransport, InterimLimitError, ProxyTransport
from gateway.upstream.interim import TOO_MANY_INTERIM
from gateway.upstream.request_head import CONNECTION_HEADERS, authority, body_headers
from gateway.upstream.resolver import Resolver, ThreadResolver, literal_address
from gateway.upstream.tls import alert_of, make_context
from gateway.upstream.transport import Deadlines, OnTrailing, Origin, TlsFiles, Upload, UpstreamError, in_seconds
from providers.base import FailureKind, WireRequest

MAX_HEADERS = 256


class _SendProgress:
    """The phase of an attempt, advanced by httpcore's trace events. When the request is sent, the deadline for the head starts."""

    def __init__(self, deadlines: Deadlines, total: float) -> None:
        self.deadlines = deadlines
        self.total = total
        self.phase = "connect"
        self.timeout: asyncio.Timeout | None = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Handle a trace event of httpcore, named `component.step.started|complete|failed`."""
        if event.endswith("start_tls.started"):
            self.phase = "tls"
        elif event.endswith("send_request_body.complete"):
            self.phase = "head"
            if self.timeout is not None:
                self.timeout.reschedule(min(asyncio.get_running_loop().time() + self.deadlines.first_byte, self.total))

    def timeout_error(self) -> UpstreamError:
        """Return the error for a timeout before the response head."""
        # compare the deadlines, not the current time: uvloop's clock may show a time just before a deadline that has fired
        if self.timeout is not None and self.timeout.expired() and self.timeout.when() == self.total:
            return UpstreamError("timeout", f"the upstream did not finish within {in_seconds(self.deadlines.total)}")
        return UpstreamError("header_timeout", f"the upstream did not respond within {in_seconds(self.deadlines.first_byte)}")


class HttpxResponse:
    """The `Response` of the httpx transport."""

    def __init__(self, response: httpx.Response, deadlines: Deadlines, total: float, closing: set[asyncio.Task[None]]) -> None:
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        extensions = response.extensions
        self._socket = None if extensions.get("http_version") == b"HTTP/2" else extensions.get("network_stream")
        self._pieces: AsyncIterator[bytes] = self._stream.__aiter__()
        self._deadlines = deadlines
        self._total = total
        self._closing = closing
        self._started = False
        self._ended = False
        self._error: UpstreamError | None = None
        self._collected: list[bytes] = []

    async def read(self) -> bytes:
        """Return the next piece. httpx reads the socket only on demand, which provides backpressure."""
        if self._error is not None:
            raise UpstreamError(self._error.kind, self._error.message)
        while not self._ended:
            piece = await self._next()
            if piece:
                self._started = True
                return piece
        return b""

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raise UpstreamError("too_large") if it exceeds `limit` bytes."""
        pieces = self._collected
        size = 0
        while piece := await self.read():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                self.close()
                raise UpstreamError("too_large", f"the upstream's response exceeds {limit} bytes")
        return b"".join(pieces)

    def unread(self) -> bytes:
        """Return the received part of a body that was not read to its end."""
        return b"".join(self._collected)

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """Close the response: HTTP/1.1 connections are not reused here, and ending an HTTP/2 stream costs nothing."""
        self.close()

    def close(self) -> None:
        """Close the HTTP/2 stream or the HTTP/1.1 connection of a body that was not read to its end."""
        if not self._ended:
            self._ended = True
            self._error = UpstreamError("truncated", "the response was closed before its end")
            self._close_stream()

    async def _next(self) -> bytes:
        deadline = min(asyncio.get_running_loop().time() + self._deadlines.idle, self._total)
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(self._pieces)
        except StopAsyncIteration:
            self._ended = True
            self._close_stream()
            return b""
        except (TimeoutError, httpx.HTTPError) as error:
            self._ended = True
            self._error = self._explain(error, is_total=deadline == self._total)
            self._close_stream()
            raise self._error from None

    def _close_stream(self) -> None:
        # `Response.close` is synchronous and httpx's is not, so the transport keeps the task until it is done.
        task = asyncio.ensure_future(self._aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _aclose(self) -> None:
        if self._socket is not None:  # HTTP/1.1: the pool does not reuse a closed connection
            await self._socket.aclose()
        await self._stream.aclose()

    def _explain(self, error: Exception, *, is_total: bool) -> UpstreamError:
        if isinstance(error, TimeoutError):
            if is_total:
                return UpstreamError("timeout", f"the upstream did not finish within {in_seconds(self._deadlines.total)}")
            kind: FailureKind = "stalled" if self._started else "ttft_timeout"
            return UpstreamError(kind, f"the upstream sent nothing for {in_seconds(self._deadlines.idle)}")
        if isinstance(error, httpx.RemoteProtocolError) and "closed connection" not in str(error):
            return UpstreamError("protocol", "the upstream's response is not valid HTTP")
        if not self._started:
            return UpstreamError("closed_pre", "the upstream closed the connection after its headers")
        kind = "truncated" if isinstance(error, httpx.RemoteProtocolError) else "reset"
        return UpstreamError(kind, "the upstream closed the connection in the middle of its response")


class HttpxTransport:
    """One httpx transport per origin.

    `connections` is the maximum number of connections to each origin. `resolver` and `is_allowed` are as in NativeTransport.
    """

    def __init__(
        self, connections: int = 1000, resolver: Resolver | None = None, is_allowed: Callable[[str], bool] = lambda address: True
    ) -> None:
        self._connections = connections
        self._is_allowed = is_allowed
        self._backend = CheckedNetworkBackend(resolver or ThreadResolver(), is_allowed)
        self._transports: dict[Origin, httpx.AsyncHTTPTransport] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def send(
        self, origin: Origin, request: WireRequest, deadlines: Deadlines, upload: Upload | None = None
    ) -> HttpxResponse:
        """Return the response once its head has arrived. Raise UpstreamError on failure."""
        transport = self._transports.get(origin) or await self._open(origin)
        progress = _SendProgress(deadlines, asyncio.get_running_loop().time() + deadlines.total)
        wire = _encode(origin, request, deadlines, progress, upload)
        request.written = True  # httpx does not report when a request leaves its queue, so assume that it was sent
        try:
            async with asyncio.timeout_at(progress.total) as progress.timeout:
                answer = await transport.handle_async_request(wire)
        except TimeoutError:
            raise progress.timeout_error() from None
        except (httpx.HTTPError, OSError) as error:
            raise _explain(error, progress.phase, origin) from None
        response = HttpxResponse(answer, deadlines, progress.total, self._closing)
        _check(response, may_be_encoded=upload is not None)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        if self._closing:
            await asyncio.wait(list(self._closing))
        for transport in self._transports.values():
            await transport.aclose()

    async def _open(self, origin: Origin) -> httpx.AsyncHTTPTransport:
        try:
            # Without TLS the context is unused: an empty one avoids loading the system's certificate authorities.
            is_secure = origin.scheme == "https"
            context = await asyncio.to_thread(make_context, origin.tls) if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            of_proxy = None
            if origin.proxy is not None and origin.proxy.startswith("https"):  # a proxy does not get the client certificate
                of_proxy = await asyncio.to_thread(make_context, TlsFiles(origin.tls.ca))
        except OSError as error:
            raise UpstreamError("tls", str(error)) from None
        if origin in self._transports:
            return self._transports[origin]
        transport = self._transports[origin] = self._new(origin, context, of_proxy)
        return transport

    def _new(self, origin: Origin, context: ssl.SSLContext, of_proxy: ssl.SSLContext | None) -> httpx.AsyncHTTPTransport:
        limits, http2 = httpx.Limits(max_connections=self._connections), origin.scheme == "https"
        if not origin.proxy:
            return CheckedTransport(self._backend, http2=http2, uds=origin.socket, limits=limits, verify=context)
        if any(not self._is_allowed(address[0]) for _, address in literal_address(origin.host, origin.port) or ()):
            raise UpstreamError("blocked", f"{origin.host} is a blocked address")
        proxy = httpx.Proxy(origin.proxy, ssl_context=of_proxy)
        return ProxyTransport(proxy, http2=http2, limits=limits, verify=context)


def _encode(
    origin: Origin, request: WireRequest, deadlines: Deadlines, progress: _SendProgress, upload: Upload | None
) -> httpx.Request:
    size = [("content-length", str(len(request.body)))] if upload is None else body_headers(upload)
    headers = [("host", authority(origin)), ("accept-encoding", "identity"), *size]
    headers += [(name, value) for name, value in request.headers if name not in CONNECTION_HEADERS]
    text = "".join([request.path, *[part for pair in headers for part in pair]])
    if any(character in text for character in "\r\n\0") or " " in request.path or not text.isascii():
        raise UpstreamError("protocol", "the request's path or headers contain characters that HTTP does not allow there")
    stall = deadlines.first_byte if upload is not None else None
    timeout = {"connect": deadlines.connect, "pool": deadlines.first_byte, "read": None, "write": stall}
    url = httpx.URL(scheme=origin.scheme, host=origin.host, port=origin.port, raw_path=request.path.encode())
    extensions = {"timeout": timeout, "trace": progress.trace}
    body = _pieces(upload) if upload is not None and upload.has_body else request.body
    return httpx.Request(request.method, url, headers=headers, content=body, extensions=extensions)


async def _pieces(upload: Upload) -> AsyncIterator[bytes]:
    while piece := await upload.read():
        yield piece


def _check(response: HttpxResponse, *, may_be_encoded: bool) -> None:
    encodings = [value for name, value in response.headers if name == b"content-encoding"]
    if len(response.headers) > MAX_HEADERS:
        response.close()
        raise UpstreamError("protocol", f"the upstream sent more than {MAX_HEADERS} headers")
    if not may_be_encoded and any(value.strip().lower() not in (b"", b"identity") for value in encodings):
        response.close()
        raise UpstreamError("encoding", "the upstream compressed its response although the request forbids it")


def _explain(error: Exception, phase: str, origin: Origin) -> UpstreamError:
    """Return the UpstreamError for an error that occurs before the response head."""
    address = f"{origin.host}:{origin.port}"
    if isinstance(error, httpx.PoolTimeout):
        return UpstreamError("overloaded", "no connection to the upstream became free in time")
    if isinstance(error, httpx.WriteTimeout):
        return UpstreamError("header_timeout", "the upstream did not read the request body in time")
    if isinstance(error, httpx.ConnectTimeout):
        if phase == "tls":
            return UpstreamError("tls_timeout", f"no TLS handshake with {origin.host} in time")
        return UpstreamError("connect_timeout", f"no connection to {address} in time")
    if any(isinstance(cause, InterimLimitError) for cause in _causes(error)):
        return UpstreamError("protocol", TOO_MANY_INTERIM)
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return UpstreamError("protocol", "the upstream's response is not valid HTTP")
    alert = next((text for cause in _causes(error) if (text := alert_of(cause)) is not None), None)
    if alert is not None:
        return UpstreamError("tls", f"TLS with {origin.host} failed: {alert}")
    if phase == "head" or isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
        if phase == "tls":
            return UpstreamError("tls", f"TLS with {origin.host} failed: the upstream closed the connection")
        return UpstreamError("closed_pre", "the upstream closed the connection without a response")
    causes = _causes(error)
    if any(isinstance(cause, BlockedAddressError) for cause in causes):
        return UpstreamError("blocked", f"{origin.host} resolves only to blocked addresses")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return UpstreamError("dns", f"cannot resolve {origin.host}")
    reason = next((cause.verify_message for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), "")
    if phase == "tls" or any(isinstance(cause, ssl.SSLError) for cause in causes):
        return UpstreamError("tls", f"TLS with {origin.host} failed: {reason or 'handshake failed'}")
    return UpstreamError("connect", f"cannot connect to {address}: {type(error).__name__}")


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in causes:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes

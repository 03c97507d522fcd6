"""One transport in front of both: native where it can, httpx (imported then) for HTTP/2 and proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.upstream.native import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, Response
from providers.base import WireRequest

if TYPE_CHECKING:
    from gateway.upstream.httpx_transport import HttpxTransport


class Upstreams:
    """The `Transport` the pipeline sends on. `native` has the figures for metrics."""

    def __init__(self, native: NativeTransport | None = None) -> None:
        self.native = native or NativeTransport()
        self._httpx: HttpxTransport | None = None

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> Response:
        """By the origin's needs."""
        if origin.proxy is None and not origin.http2:
            return await self.native.send(origin, request, deadlines)
        if self._httpx is None:
            from gateway.upstream.httpx_transport import HttpxTransport

            self._httpx = HttpxTransport(self.native.connections)
        return await self._httpx.send(origin, request, deadlines)

    async def aclose(self) -> None:
        """Close both."""
        await self.native.aclose()
        if self._httpx is not None:
            await self._httpx.aclose()

"""POST /admin/relay/PATH: sends a call of the playground to the callers' listener of this gateway, and returns the response to the page.

The page may send requests only to its own origin, so the admin listener forwards its calls. Each call is checked,
limited, recorded and billed like any other, and needs a virtual key (`x-virtual-key`) if callers need one. The admin
key is never forwarded. Only the paths of calls to models and of the tokenizer can be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.table import DIALECTS, call_paths
from gateway.errors import GatewayError, Unavailable
from gateway.http.json_body import Receive, read_body_in_time
from gateway.runtime.gateway import Gateway
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from gateway.upstream.transport import Response as UpstreamResponse
from providers.base import WireRequest

DEADLINES = Deadlines(connect=2.0, first_byte=3600.0, idle=3600.0, total=24 * 3600.0)
"""Generous values: the callers' listener applies the deadlines of the configuration, which end a call much earlier."""
KEY_HEADER = "x-virtual-key"
_SENT = frozenset({"content-type", "accept", "anthropic-version", "anthropic-beta", "x-session-id"})
_NOT_RETURNED = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"date", b"server", b"set-cookie"})
_TOKENS = ("/v1/tokenize", "/v1/detokenize")


class Relay:
    """Sends calls to the callers' listener at `address`, a pair of host and port."""

    def __init__(self, gateway: Gateway, address: tuple[str, int]) -> None:
        host, port = address
        self._gateway = gateway
        self._origin = Origin("http", {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
        self._transport = gateway.resources.loopback
        self._paths = frozenset((*call_paths(DIALECTS), *_TOKENS))

    async def call(self, request: Request) -> Response:
        """Send one call, and return its response.

        Raise HTTPException for an unknown path, GatewayError if the callers' listener uses TLS, and Unavailable if it does not answer.
        """
        path, config = "/" + request.path_params["path"], self._gateway.config
        if path not in self._paths:
            raise HTTPException(404)
        if config.tls is not None:
            message = "The page cannot send calls while the callers' listener uses TLS. Send the call with the command that the page shows."
            raise GatewayError(message, status=409, code="relay_not_possible", type="invalid_request_error")
        body = await read_body_in_time(request.receive, config.max_body, config.callers.body)
        sent = [(name, value) for name, value in request.headers.items() if name in _SENT or name.startswith("x-gateway-")]
        if key := request.headers.get(KEY_HEADER):
            sent.append(("authorization", f"Bearer {key}"))
        try:
            answer = await self._transport.send(self._origin, WireRequest(path, sent, body), DEADLINES)
        except UpstreamError as error:
            raise Unavailable(f"The callers' listener does not answer: {error.message}.", code="relay_failed") from None
        return RelayedResponse(answer)


class RelayedResponse(Response):
    """Passes a response to the page piece by piece. If the page disconnects, the call is aborted."""

    def __init__(self, answer: UpstreamResponse) -> None:
        super().__init__(status_code=answer.status)
        self._answer = answer
        self.raw_headers = list(_returned(answer.headers))

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Any) -> None:
        """Send the response."""
        tasks = {asyncio.ensure_future(self._pass_on(send)), asyncio.ensure_future(_disconnected(receive))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._answer.close()

    async def _pass_on(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with contextlib.suppress(UpstreamError):  # if the response breaks off, the page detects that its end or its end event is missing
            while piece := await self._answer.read():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _returned(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    return ((name, value) for name, value in headers if name not in _NOT_RETURNED)


async def _disconnected(receive: Receive) -> None:
    """Wait until the page disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass

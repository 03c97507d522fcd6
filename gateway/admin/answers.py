"""Responses of the admin listener: JSON with a request id, and errors in the format of the callers' API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from gateway.errors import GatewayError, NotFound
from gateway.http.request_id import next_id
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import internal_error

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every JSON response: some responses contain a secret, and some contain text from callers or providers."""


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(msgspec.json.encode(value), status, {**_HEADERS, "x-request-id": next_id()}, "application/json")


async def answer_error(request: Request, error: GatewayError) -> Response:
    """Return the response to a rejected request."""
    return _error_response(error, next_id())


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    """Return the response to an unknown path or an unsupported method."""
    if error.status_code == 404:
        return _error_response(NotFound("Unknown path. Use /, /healthz, /readyz, /metrics, /openapi.json or /admin/*."), next_id())
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    first = matching[0].path  # a key's name may contain '/', so other routes may match as well
    allowed = ", ".join(sorted({method for route in matching if route.path == first for method in route.methods}))
    refused = GatewayError(
        f"{request.method[:20]} is not allowed here. Use {allowed}.",
        status=error.status_code, code="method_not_allowed", type="invalid_request_error", headers=((b"allow", allowed.encode()),),
    )  # fmt: skip
    return _error_response(refused, next_id())


def answer_internal_error(gateway: Gateway) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of internal errors: it logs and counts them, and responds with the request id of the log line."""

    async def handle(request: Request, error: Exception) -> Response:
        id = next_id()
        gateway.log.write(internal_error(id, error))
        gateway.metrics.count("lockgate_internal_errors")
        return _error_response(GatewayError("Internal error: the gateway's log has the details under this request id."), id)

    return handle


def _error_response(error: GatewayError, id: str) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.as_body(), error.status, {**_HEADERS, "x-request-id": id, **headers}, "application/json")

"""How the admin listener answers: JSON with an id, and errors in the shape that callers get."""

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


def json_response(value: Any, status: int = 200) -> Response:
    """A value as an answer."""
    return Response(msgspec.json.encode(value), status, {"x-request-id": next_id()}, "application/json")


async def answer_error(request: Request, error: GatewayError) -> Response:
    """A refusal."""
    return _error_response(error, next_id())


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    """A path or method that is not in the table."""
    if error.status_code == 404:
        return _error_response(NotFound("The admin listener has /healthz, /readyz, /metrics and /admin/*."), next_id())
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    allowed = ", ".join(sorted({method for route in matching for method in route.methods}))
    refusal = GatewayError(
        f"{request.method[:20]} is not possible here, only {allowed}.",
        status=error.status_code, code="method_not_allowed", type="invalid_request_error", headers=((b"allow", allowed.encode()),),
    )  # fmt: skip
    return _error_response(refusal, next_id())


def answer_internal_error(gateway: Gateway) -> Callable[[Request, Exception], Awaitable[Response]]:
    """An error of ours: it is logged and counted, and the answer names the log line."""

    async def answered(request: Request, error: Exception) -> Response:
        id = next_id()
        gateway.log.write(internal_error(id, error))
        gateway.metrics.count("lockgate_internal_errors")
        return _error_response(GatewayError("The gateway failed to handle this request. Its log has the request id."), id)

    return answered


def _error_response(error: GatewayError, id: str) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body(), error.status, {"x-request-id": id, **headers}, "application/json")

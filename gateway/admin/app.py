"""What the admin listener answers: /healthz, /readyz, /metrics. On loopback by default; off it, only with the admin key."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import bearer
from gateway.build import Gateway
from gateway.call import next_id
from gateway.errors import GatewayError, NotFound, Unauthorized


class Health:
    """Whether this process should be sent calls: set by the server as it starts and stops."""

    def __init__(self) -> None:
        self.serving = False
        self.draining = False


def build_admin(gateway: Gateway, health: Health) -> Starlette:
    """The admin ASGI application."""

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(request: Request) -> Response:
        engines = {name: engine.state for name, engine in gateway.engines.items()}
        ready = health.serving and not health.draining and "starting" not in engines.values()
        status = "draining" if health.draining else "ready" if ready else "starting"
        return _json({"status": status, "engines": engines}, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        if gateway.config.admin.metrics == "keyed":
            _check_key(gateway, request)
        return Response(gateway.metrics.expose(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    handlers: dict[Any, Any] = {GatewayError: _answer_error, HTTPException: _answer_http}
    return Starlette(routes=routes, exception_handlers=handlers)


def _check_key(gateway: Gateway, request: Request) -> None:
    """Unauthorized unless the admin key was sent, where one is configured."""
    expected = gateway.config.admin.key_hash
    if expected is None:
        return
    token = bearer(request.scope["headers"])
    digest = hashlib.sha256(token or b"").hexdigest()
    if token is None or not hmac.compare_digest(digest, expected.removeprefix("sha256:")):
        raise Unauthorized("This needs the admin key, as 'Authorization: Bearer KEY'.")


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, {"x-request-id": next_id()}, "application/json")


async def _answer_error(request: Request, error: GatewayError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body(), error.status, {"x-request-id": next_id(), **headers}, "application/json")


async def _answer_http(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return await _answer_error(request, NotFound("The admin listener has /healthz, /readyz and /metrics."))
    return await _answer_error(request, GatewayError("Not possible here.", status=error.status_code, code="method_not_allowed"))

"""The admin listener's route table and authentication. The listener is on loopback by default; any other address requires an admin key.

Each group of endpoints has a module of its own. This module checks the admin key. If none is configured, it rejects requests from web
pages instead. Requests to /healthz and /readyz are not checked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.admin import configuration, health, limits, route, scrape, targets, usage
from gateway.admin.answers import answer_error, answer_http_error, answer_internal_error
from gateway.admin.calls import CallEndpoints
from gateway.admin.health import Readiness
from gateway.admin.keys import KeyAdmin
from gateway.admin.teams import TeamAdmin
from gateway.errors import Forbidden, GatewayError, Unauthorized
from gateway.http.page_guard import PageRules
from gateway.http.request_id import next_id
from gateway.keys.authenticate import bearer_token
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader

Endpoint = Callable[[Request], Awaitable[Response]]


def build_admin(gateway: Gateway, readiness: Readiness, reloader: Reloader) -> Starlette:
    """Return the admin ASGI application."""

    def keyed(path: str, endpoint: Endpoint, *methods: str) -> BaseRoute:
        """Return a route that requires the admin key."""

        async def checked(request: Request) -> Response:
            _check_caller(gateway, request)
            return await endpoint(request)

        return Route(path, checked, methods=list(methods or ("GET",)))

    keys, teams, past_calls = KeyAdmin(gateway), TeamAdmin(gateway), CallEndpoints(gateway)
    routes: list[BaseRoute] = [
        Route("/healthz", health.live),
        Route("/readyz", health.ready(gateway, readiness)),
        Route("/metrics", _key_unless_open(gateway, scrape.metrics(gateway))),
        keyed("/openapi.json", _openapi),
        keyed("/admin/targets", targets.list_targets(gateway)),
        keyed("/admin/route", route.route(gateway), "POST"),
        keyed("/admin/keys", keys.list),
        keyed("/admin/keys", keys.create, "POST"),
        keyed("/admin/keys/{name:path}/rotate", keys.rotate, "POST"),
        keyed("/admin/keys/{name:path}", keys.show),
        keyed("/admin/keys/{name:path}", keys.change, "PATCH", "POST"),
        keyed("/admin/keys/{name:path}", keys.revoke, "DELETE"),
        keyed("/admin/teams", teams.list),
        keyed("/admin/teams", teams.create, "POST"),
        keyed("/admin/teams/{name:path}", teams.show),
        keyed("/admin/teams/{name:path}", teams.change, "PATCH", "POST"),
        keyed("/admin/teams/{name:path}", teams.remove, "DELETE"),
        keyed("/admin/usage", usage.usage(gateway)),
        keyed("/admin/calls", past_calls.list_calls),
        keyed("/admin/calls/{id}", past_calls.show_call),
        keyed("/admin/limits", limits.list_limits(gateway)),
        keyed("/admin/config", configuration.show(gateway, reloader)),
        keyed("/admin/reload", configuration.reload(reloader), "POST"),
    ]
    handlers: dict[Any, Any] = {GatewayError: answer_error, HTTPException: answer_http_error, Exception: answer_internal_error(gateway)}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _openapi(request: Request) -> Response:
    """GET /openapi.json: return the OpenAPI document of both listeners."""
    from gateway.openapi.document import document_json

    return Response(document_json(), 200, {"x-request-id": next_id()}, "application/json")


def _key_unless_open(gateway: Gateway, endpoint: Endpoint) -> Endpoint:
    """Check requests as for the other endpoints, unless there is an admin key and `metrics: open` is set."""

    async def checked(request: Request) -> Response:
        if gateway.config.admin.metrics == "keyed" or gateway.config.admin.key_hash is None:
            _check_caller(gateway, request)
        return await endpoint(request)

    return checked


def _check_caller(gateway: Gateway, request: Request) -> None:
    """Raise Unauthorized unless the admin key was sent.

    Without an admin key the listener is on loopback: raise Forbidden if the request may come from a web page.
    """
    admin = gateway.config.admin
    expected = admin.key_hash
    if expected is None:
        problem = PageRules(admin.hosts).check_headers(request.scope["headers"])
        if problem is not None:
            raise Forbidden(problem[2], code=problem[1])
        return
    token = bearer_token(request.scope["headers"])
    digest = hashlib.sha256(token or b"").hexdigest()
    if token is None or not hmac.compare_digest(digest, expected.removeprefix("sha256:")):
        raise Unauthorized("The admin key is required. Send 'Authorization: Bearer KEY'.")

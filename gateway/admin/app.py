"""The admin listener's route table. The listener is on loopback by default; any other address requires an admin key.

Each group of endpoints has a module of its own; gateway.admin.access checks the access to them. Requests to /healthz,
/readyz and the files of the page are not checked. The endpoints of /admin/session check requests themselves, and `metrics: open`
removes the check of /metrics if there is an admin key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.admin import configuration, health, limits, live, route, scrape, static_files, targets, usage
from gateway.admin.access import Access
from gateway.admin.answers import answer_error, answer_http_error, answer_internal_error
from gateway.admin.calls import CallEndpoints
from gateway.admin.demo import DemoAdmin
from gateway.admin.health import Readiness
from gateway.admin.keys import KeyAdmin
from gateway.admin.playground import PlaygroundAdmin
from gateway.admin.relay import Relay
from gateway.admin.teams import TeamAdmin
from gateway.demo.demo import Demo
from gateway.errors import GatewayError
from gateway.http.request_id import next_id
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader

Endpoint = Callable[[Request], Awaitable[Response]]
Keyed = Callable[..., BaseRoute]
"""Makes a route whose requests are checked, from its path, its endpoint and its methods."""


def build_admin(
    gateway: Gateway,
    readiness: Readiness,
    reloader: Reloader,
    callers: tuple[str, int] = ("127.0.0.1", 0),
    demo: Demo | None = None,
) -> Starlette:
    """Return the admin ASGI application.

    `callers` is the address of the callers' listener, to which the page's calls are sent; `demo` contains the scripted
    providers, if the gateway runs a demo.
    """
    access = Access(gateway)

    def keyed(path: str, endpoint: Endpoint, *methods: str) -> BaseRoute:
        """Return a route whose requests are checked."""

        async def checked(request: Request) -> Response:
            access.check(request)
            return await endpoint(request)

        return Route(path, checked, methods=list(methods or ("GET",)))

    past_calls = CallEndpoints(gateway)
    routes: list[BaseRoute] = [
        Route("/", static_files.serve("index.html")),
        Route("/page/{name:path}", static_files.serve()),
        Route("/healthz", health.live),
        Route("/readyz", health.ready(gateway, readiness)),
        Route("/metrics", _key_unless_open(gateway, access, scrape.metrics(gateway))),
        Route("/admin/session", access.show),
        Route("/admin/session", access.begin, methods=["POST"]),
        Route("/admin/session", access.end, methods=["DELETE"]),
        keyed("/openapi.json", _openapi),
        *_routes_of_entries(gateway, keyed),
        *_routes_of_page(gateway, reloader, callers, demo, keyed),
        keyed("/admin/targets", targets.list_targets(gateway)),
        keyed("/admin/route", route.route(gateway), "POST"),
        keyed("/admin/usage", usage.usage(gateway)),
        keyed("/admin/calls", past_calls.list_calls),
        keyed("/admin/calls/{id}", past_calls.show_call),
        keyed("/admin/limits", limits.list_limits(gateway)),
        keyed("/admin/config", configuration.show(gateway, reloader)),
        keyed("/admin/reload", configuration.reload(reloader), "POST"),
    ]
    handlers: dict[Any, Any] = {GatewayError: answer_error, HTTPException: answer_http_error, Exception: answer_internal_error(gateway)}
    return Starlette(routes=routes, exception_handlers=handlers)


def _routes_of_entries(gateway: Gateway, keyed: Keyed) -> list[BaseRoute]:
    """Return the routes of keys and teams."""
    keys, teams = KeyAdmin(gateway), TeamAdmin(gateway)
    return [
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
    ]


def _routes_of_page(
    gateway: Gateway, reloader: Reloader, callers: tuple[str, int], demo: Demo | None, keyed: Keyed
) -> list[BaseRoute]:
    """Return the routes that only the page needs."""
    playground, broken = PlaygroundAdmin(gateway), DemoAdmin(demo)
    return [
        keyed("/admin/live", live.live(gateway, reloader, callers, has_demo=demo is not None)),
        keyed("/admin/models", playground.models),
        keyed("/admin/parameters", playground.parameters),
        keyed("/admin/explain", playground.explain, "POST"),
        keyed("/admin/relay/{path:path}", Relay(gateway, callers).call, "POST"),
        keyed("/admin/demo", broken.show),
        keyed("/admin/demo", broken.change, "POST"),
    ]


async def _openapi(request: Request) -> Response:
    """GET /openapi.json: return the OpenAPI document of both listeners."""
    from gateway.openapi.document import document_json

    return Response(document_json(), 200, {"x-request-id": next_id()}, "application/json")


def _key_unless_open(gateway: Gateway, access: Access, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with the checks of the others, or without them if there is an admin key and `metrics` is `open`."""

    async def checked(request: Request) -> Response:
        if gateway.config.admin.metrics == "keyed" or gateway.config.admin.key_hash is None:
            access.check(request)
        return await endpoint(request)

    return checked

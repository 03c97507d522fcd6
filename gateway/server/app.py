"""The callers' route table and CORS.

Model calls and passed calls go straight to the pipeline as raw ASGI. Every other path is a Starlette route. The server
decodes each path once; routing and authorization use the same decoded path, except that the patterns of `passthrough`
are compared with the raw path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from gateway.config.passthrough import METHODS
from gateway.dialects.azure import DEPLOYMENTS, ENDINGS
from gateway.dialects.dialect import Dialect
from gateway.dialects.messages_api.dialect import MESSAGES_PREFIXES
from gateway.dialects.table import DIALECTS, PREFIXES, call_paths, deployment_api
from gateway.http.caller import Send
from gateway.http.json_body import Receive
from gateway.runtime.gateway import Gateway
from gateway.server.endpoints import Endpoints
from gateway.server.own_key import OwnKey
from gateway.server.stored_responses import StoredResponses
from gateway.server.websockets import serve_websocket

Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

EXPOSED_HEADERS = (
    "x-request-id", "x-gateway-adjusted", "x-gateway-target", "x-gateway-attempts", "x-gateway-limits", "x-gateway-cache", "server-timing",
    "retry-after", "retry-after-ms", "x-should-retry", "request-id",
)  # fmt: skip
"""Headers of the gateway that scripts in a browser may read, in addition to the rate-limit headers."""
MCP_HEADERS = ("mcp-session-id", "mcp-protocol-version")
"""Headers of MCP servers that clients in a browser need."""


def build_app(gateway: Gateway, dialects: Sequence[Dialect] = DIALECTS) -> Asgi:
    """Return the callers' ASGI application. Each call is served by the generation that is current when it begins."""
    dialect_of = call_paths(dialects)

    @cache
    def rest() -> Any:
        return _other_routes(gateway, dialect_of)

    with_cors: dict[tuple[tuple[str, ...], bool], Any] = {}

    def dispatch(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            dialect = dialect_of.get(scope["path"])
            if dialect is not None and scope["method"] == "POST":
                return gateway.generation.pipeline.serve(dialect, scope, receive, send)
            pipeline = gateway.generation.pipeline
            if scope["method"] == "POST" and (dialect := deployment_api(scope["path"])) is not None:
                return pipeline.serve(dialect, scope, receive, send)
            if pipeline.passed is not None and (rule := pipeline.passed.find(scope["raw_path"])) is not None:
                return pipeline.pass_through(rule, scope, receive, send)
        elif scope["type"] == "websocket":
            return serve_websocket(gateway, scope, receive, send)
        return rest()(scope, receive, send)  # type: ignore[no-any-return]

    def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine, because every await of the application would pass through it.
        config = gateway.generation.config
        if config.callers.base_path:
            _remove_base(scope, config.callers.base_path)
        if not config.cors:
            return dispatch(scope, receive, send)
        settings = config.cors, bool(config.passthrough)
        if settings not in with_cors:
            with_cors.clear()
            with_cors[settings] = _with_cors(dispatch, *settings)
        return with_cors[settings](scope, receive, send)  # type: ignore[no-any-return]

    return app


def _remove_base(scope: MutableMapping[str, Any], base: str) -> None:
    """Remove the base path from a path below it. The base path has no escapes, so it is the same in the decoded path."""
    if scope.get("raw_path", b"").startswith(f"{base}/".encode()):
        scope["path"], scope["raw_path"] = scope["path"][len(base) :], scope["raw_path"][len(base) :]


def _with_cors(app: Asgi, origins: tuple[str, ...], passes_methods: bool) -> Any:
    """Wrap the application in CORS. Passed paths have more methods than the gateway's own APIs."""
    from starlette.middleware.cors import CORSMiddleware

    fields, kinds = ("limit", "remaining", "reset"), ("requests", "tokens")
    limits = [(field, kind) for field in fields for kind in kinds]
    exposed = [
        *EXPOSED_HEADERS,
        *MCP_HEADERS,
        *(f"x-ratelimit-{field}-{kind}" for field, kind in limits),
        *(f"anthropic-ratelimit-{kind}-{field}" for field, kind in limits),
    ]
    methods = METHODS if passes_methods else ("GET", "POST", "DELETE")
    return CORSMiddleware(
        app, allow_origins=list(origins), allow_methods=methods, allow_headers=["*"], expose_headers=exposed
    )


def _other_routes(gateway: Gateway, dialect_of: Mapping[str, Dialect]) -> Starlette:
    """Return the application for all requests except model calls and passed calls.

    It is made when it is first needed, because Starlette compiles an expression for each of its about 350 routes.
    """
    endpoints, stored = Endpoints(gateway, dialect_of), StoredResponses(gateway)
    routes = other_routes(endpoints, stored, OwnKey(gateway), dialect_of)
    app = Starlette(routes=routes, exception_handlers=endpoints.handlers())
    app.router.redirect_slashes = False
    return app


def other_routes(
    endpoints: Endpoints, stored: StoredResponses, own_key: OwnKey, dialect_of: Mapping[str, Dialect]
) -> list[Route]:
    """Return the routes of all requests except model calls and passed calls. gateway.openapi.callers describes them."""
    routes = [
        Route(f"{prefix}{path}", endpoint, methods=[method])
        for prefix in PREFIXES
        for path, endpoint, method in (
            ("/models", endpoints.models, "GET"),
            ("/models/{name:path}", endpoints.model, "GET"),
            ("/explain", endpoints.explain, "POST"),
            ("/key", own_key.show, "GET"),
            ("/tcp_warming", endpoints.tcp_warming, "GET"),
        )
    ]
    routes += [
        Route(f"{prefix}{path}", endpoint, methods=["GET"])
        for prefix in MESSAGES_PREFIXES
        if prefix not in PREFIXES
        for path, endpoint in (("/models", endpoints.models), ("/models/{name:path}", endpoints.model))
    ]
    routes.append(Route("/openapi.json", endpoints.openapi, methods=["GET"]))
    routes.append(Route("/healthz", endpoints.health, methods=["GET"]))
    counts = {f"{prefix}/messages/count_tokens": endpoints.count_tokens for prefix in MESSAGES_PREFIXES}
    counts |= {f"{prefix}/responses/input_tokens": endpoints.input_tokens for prefix in PREFIXES}
    counts |= {f"{prefix}/tokenize": endpoints.tokenize for prefix in PREFIXES}
    counts |= {f"{prefix}/detokenize": endpoints.detokenize for prefix in PREFIXES}
    routes += [Route(path, endpoint, methods=["POST"]) for path, endpoint in counts.items()]
    routes += [Route(f"{path}/explain", endpoints.explain, methods=["POST"]) for path in dialect_of]
    routes += [Route(f"{DEPLOYMENTS}{{name:path}}{end}/explain", endpoints.explain, methods=["POST"]) for end in ENDINGS]
    paths = [*dialect_of, *counts, *(f"{DEPLOYMENTS}{{name:path}}{end}" for end in ENDINGS)]
    routes += [Route(path, endpoints.post_only, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]) for path in paths]
    routes += [Route(f"{prefix}/responses/compact", stored.compact, methods=["POST"]) for prefix in PREFIXES]
    routes += [
        Route(f"{prefix}/responses/{{id}}{path}", endpoint, methods=methods)
        for prefix in PREFIXES
        for path, endpoint, methods in (
            ("", stored.response, ["GET", "DELETE"]),
            ("/input_items", stored.input_items, ["GET"]),
            ("/cancel", stored.cancel, ["POST"]),
        )
    ]
    return routes

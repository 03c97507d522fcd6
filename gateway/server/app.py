"""The table of contents: which path is answered by whom.

Calls to models go straight to the pipeline as raw ASGI; every other path is a Starlette route behind it. Paths are compared as
the server decoded them, once: what the router sees is what was authorized.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from gateway.http.caller import Send
from gateway.http.json_body import Receive
from gateway.runtime.gateway import Gateway
from gateway.server.endpoints import Endpoints
from providers.base import Operation

Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PREFIXES = ("/v1", "", "/openai/v1", "/inference/v1", "/api/inference/v1", "/serverless/v1", "/dedicated/v1")
"""Where clients look for the API: OpenAI's own, without a version, Groq, Fireworks, Goodfire, Friendli (two)."""

OPERATIONS: dict[str, Operation] = {
    "/chat/completions": "chat",
    "/chat/logits": "logits",
    "/chat-attribution/compute-logits": "logits",
}
"""Paths behind a prefix that the pipeline answers itself; the last one is Goodfire's."""

CALL_PATHS: dict[str, Operation] = {prefix + path: operation for prefix in PREFIXES for path, operation in OPERATIONS.items()}


EXPOSED_HEADERS = (
    "x-request-id", "x-gateway-adjusted", "x-gateway-target", "x-gateway-attempts", "x-gateway-limits", "server-timing",
    "retry-after", "retry-after-ms", "x-should-retry",
)  # fmt: skip
"""Headers of ours that a browser's script may read, with the rate limits'."""


def build_app(gateway: Gateway) -> Asgi:
    """The callers' ASGI application. Each call is served by the generation that is current when it begins."""
    rest: Any = _other_routes(gateway)

    browsers: dict[tuple[str, ...], Any] = {}

    def answer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            operation = CALL_PATHS.get(scope["path"])
            if operation is not None and scope["method"] == "POST":
                return gateway.generation.pipeline.serve(operation, scope, receive, send)
        return rest(scope, receive, send)  # type: ignore[no-any-return]

    def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
        """No coroutine of its own: whatever is awaited below would go through it on its way back."""
        origins = gateway.generation.config.cors
        if not origins:
            return answer(scope, receive, send)
        if origins not in browsers:
            browsers.clear()
            browsers[origins] = _with_cors(answer, origins)
        return browsers[origins](scope, receive, send)  # type: ignore[no-any-return]

    return app


def _with_cors(app: Asgi, origins: tuple[str, ...]) -> Any:
    """The application for browsers, too."""
    from starlette.middleware.cors import CORSMiddleware

    exposed = [*EXPOSED_HEADERS, *(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens"))]
    return CORSMiddleware(app, allow_origins=list(origins), allow_methods=["GET", "POST"], allow_headers=["*"], expose_headers=exposed)


def _other_routes(gateway: Gateway) -> Starlette:
    """Everything but calls to models."""
    answer = Endpoints(gateway)
    routes = [
        Route(f"{prefix}{path}", endpoint, methods=[method])
        for prefix in PREFIXES
        for path, endpoint, method in (
            ("/models", answer.models, "GET"),
            ("/models/{name:path}", answer.model, "GET"),
            ("/explain", answer.explain, "POST"),
            ("/tcp_warming", answer.tcp_warming, "GET"),
        )
    ]
    routes += [Route(path, answer.post_only, methods=["GET", "PUT", "PATCH", "DELETE"]) for path in CALL_PATHS]
    found = Starlette(routes=routes, exception_handlers=answer.handlers())
    found.router.redirect_slashes = False
    return found

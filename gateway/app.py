"""The table of contents: which path is answered by whom.

Calls to models go straight to the pipeline as raw ASGI; every other path is a Starlette route behind it. Paths are compared as
the server decoded them, once: what the router sees is what was authorized.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import may_use
from gateway.build import Gateway
from gateway.call import next_id
from gateway.caller import Send
from gateway.dialects.json_body import CallerGone, Receive, check_headers, read_body
from gateway.errors import BadRequest, GatewayError, NotFound
from gateway.explain import explain
from gateway.routing import unknown_model
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

HOT: dict[str, Operation] = {prefix + path: operation for prefix in PREFIXES for path, operation in OPERATIONS.items()}


def build_app(gateway: Gateway) -> Asgi:
    """The callers' ASGI application."""
    rest: Any = _rest(gateway)
    serve = gateway.pipeline.serve

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            operation = HOT.get(scope["path"])
            if operation is not None and scope["method"] == "POST":
                await serve(operation, scope, receive, send)
                return
        await rest(scope, receive, send)

    if gateway.config.cors:
        from starlette.middleware.cors import CORSMiddleware

        exposed = ["x-request-id", "x-gateway-adjusted", "x-gateway-target", "x-gateway-attempts", "server-timing", "retry-after"]
        return CORSMiddleware(
            app,
            allow_origins=list(gateway.config.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=exposed,
        )
    return app


def _rest(gateway: Gateway) -> Starlette:
    async def models(request: Request) -> Response:
        key = gateway.pipeline.keys.authenticate(request.scope["headers"])
        names = gateway.router.names()
        allowed = [name for name in names if may_use(key, name)]
        return _json({"object": "list", "data": [describe_model(gateway, name, brief=True) for name in allowed]})

    async def model(request: Request) -> Response:
        key = gateway.pipeline.keys.authenticate(request.scope["headers"])
        name = request.path_params["name"]
        if not name:
            return await models(request)
        gateway.router.find(name)
        if not may_use(key, name):
            assert key is not None
            assert key.models is not None
            raise unknown_model(name, sorted(key.models))
        return _json(describe_model(gateway, name))

    async def warm(request: Request) -> Response:
        """Cerebras' client asks for this when it is made, to have a connection open."""
        return _json({"status": "ok"})

    async def explained(request: Request) -> Response:
        headers, limit = request.scope["headers"], gateway.config.max_body
        key = gateway.pipeline.keys.authenticate(headers)
        check_headers(headers, limit)
        return _json(explain(gateway, await read_body(request.receive, limit), request.headers, key))

    routes = [
        Route(f"{prefix}{path}", endpoint, methods=methods)
        for prefix in PREFIXES
        for path, endpoint, methods in (
            ("/models", models, ["GET"]),
            ("/models/{name:path}", model, ["GET"]),
            ("/explain", explained, ["POST"]),
            ("/tcp_warming", warm, ["GET"]),
        )
    ]

    async def only_post(request: Request) -> Response:
        gateway.pipeline.keys.authenticate(request.scope["headers"])
        raise _only_post(request)

    routes += [Route(path, only_post, methods=["GET", "PUT", "PATCH", "DELETE"]) for path in HOT]

    async def unknown(request: Request, error: HTTPException) -> Response:
        """A stranger does not learn which paths there are."""
        try:
            gateway.pipeline.keys.authenticate(request.scope["headers"])
        except GatewayError as refused:
            return _error(refused)
        return _http_error(request, error)

    handlers: dict[Any, Any] = {
        GatewayError: _answer_error,
        HTTPException: unknown,
        CallerGone: _answer_nobody,
        Exception: _answer_internal,
    }
    found = Starlette(routes=routes, exception_handlers=handlers)
    found.router.redirect_slashes = False
    return found


def _only_post(request: Request) -> GatewayError:
    return GatewayError(
        f"{request.scope['path']} takes POST, not {request.method}.",
        status=405,
        code="method_not_allowed",
        type="invalid_request_error",
        headers=((b"allow", b"POST"),),
    )


def describe_model(gateway: Gateway, name: str, *, brief: bool = False) -> dict[str, Any]:
    """One entry of /v1/models; with what the model honours and adjusts unless `brief`."""
    choices = gateway.router.targets(gateway.router.find(name))
    found: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": choices[0].place.target.provider}
    if not brief:
        targets = [choice.place.target for choice in choices]
        found["targets"] = [{"target": one.name, "parameters": one.kind.capabilities(one.model)} for one in targets]
    return found


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, {"x-request-id": next_id()}, "application/json")


def _error(error: GatewayError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body(), error.status, {"x-request-id": next_id(), **headers}, "application/json")


async def _answer_error(request: Request, error: GatewayError) -> Response:
    return _error(error)


def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.scope["path"][:100]  # request.url is made of the Host header too
    if error.status_code == 404:
        return _error(NotFound(f"{path} is no path of this gateway. Chat is POST /v1/chat/completions; models are GET /v1/models."))
    code = {405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    return _error(
        GatewayError(
            f"{request.method} is not possible on {path}.",
            status=error.status_code,
            code=code,
            type="invalid_request_error",
            headers=headers,
        )
    )


async def _answer_nobody(request: Request, error: CallerGone) -> Response:
    return _error(BadRequest("The request's body is incomplete.", code="invalid_json"))


async def _answer_internal(request: Request, error: Exception) -> Response:
    return _error(GatewayError("The gateway failed to handle this request."))

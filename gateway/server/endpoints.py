"""The callers' endpoints other than model calls: `/v1/models`, `/v1/explain`, `/v1/tcp_warming`, and error responses."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import BadRequest, GatewayError, NotFound
from gateway.explain.model import describe_model
from gateway.explain.request import explain
from gateway.http.json_body import CallerDisconnectedError, check_body_headers, read_body_in_time
from gateway.http.request_id import next_id
from gateway.keys.virtual_key import VirtualKey, may_use
from gateway.routing.router import unknown_model
from gateway.runtime.gateway import Gateway
from gateway.runtime.generation import Generation
from gateway.telemetry.call_log import internal_error


class Endpoints:
    """The endpoints of one gateway. Each except `tcp_warming` checks the virtual key first."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def _authenticate(self, request: Request) -> tuple[Generation, VirtualKey | None]:
        """Return the current generation and the caller's key in it."""
        generation = self._gateway.generation
        return generation, generation.keys.authenticate(request.scope["headers"], request.scope["query_string"])

    async def models(self, request: Request) -> Response:
        """GET /v1/models: list the models that this key may use."""
        generation, key = self._authenticate(request)
        allowed = [name for name in generation.router.names() if may_use(key, name)]
        return _json({"object": "list", "data": [self._describe(generation, name, brief=True) for name in allowed]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}: return one model with the parameters that each of its targets honours and adjusts."""
        generation, key = self._authenticate(request)
        name = request.path_params["name"]
        if not name:
            return await self.models(request)
        generation.router.find(name)
        if not may_use(key, name):
            assert key is not None
            assert key.models is not None
            raise unknown_model(name, sorted(key.models))
        return _json(self._describe(generation, name))

    def _describe(self, generation: Generation, name: str, *, brief: bool = False) -> dict[str, Any]:
        candidates = generation.router.all_candidates(generation.router.find(name))
        return describe_model(name, candidates, self._gateway.health.is_live, brief=brief)

    async def tcp_warming(self, request: Request) -> Response:
        """GET /v1/tcp_warming: answer the request with which a client object of the Cerebras SDK opens its connection."""
        return _json({"status": "ok"})

    async def explain(self, request: Request) -> Response:
        """POST /v1/explain: explain how a chat body would be handled."""
        generation, key = self._authenticate(request)
        limit = generation.config.max_body
        check_body_headers(request.scope["headers"], limit)
        source = await read_body_in_time(request.receive, limit, generation.config.callers.body)
        run, headers = generation.dry_run(), request.scope["headers"]
        return _json(await explain(run, source, headers, key, generation.pipeline.begin_trace(headers)))

    async def post_only(self, request: Request) -> Response:
        """Reject methods other than POST on the paths that the pipeline serves."""
        self._authenticate(request)
        raise _post_only_error(request)

    async def http_error(self, request: Request, error: HTTPException) -> Response:
        """Reject an unknown path or method. Without a valid key, the response does not reveal which paths exist."""
        try:
            self._authenticate(request)
        except GatewayError as refused:
            return _error(refused)
        return _http_error(request, error)

    async def internal_error(self, request: Request, error: Exception) -> Response:
        """Log and count an internal error. The response has the request id of the log line."""
        id = next_id()
        self._gateway.log.write(internal_error(id, error))
        self._gateway.metrics.count("lockgate_internal_errors")
        return _error(GatewayError("Internal error: the gateway's log has the details under this request id."), id)

    def handlers(self) -> dict[Any, Any]:
        """Return the exception handlers."""
        return {
            GatewayError: _answer_error,
            HTTPException: self.http_error,
            CallerDisconnectedError: _answer_incomplete_body,
            Exception: self.internal_error,
        }


def _post_only_error(request: Request) -> GatewayError:
    return GatewayError(
        f"{request.method} is not allowed on {request.scope['path']}. Use POST.",
        status=405,
        code="method_not_allowed",
        type="invalid_request_error",
        headers=((b"allow", b"POST"),),
    )


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, {"x-request-id": next_id()}, "application/json")


def _error(error: GatewayError, id: str | None = None) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.as_body(), error.status, {"x-request-id": id or next_id(), **headers}, "application/json")


async def _answer_error(request: Request, error: GatewayError) -> Response:
    return _error(error)


def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.scope["path"][:100]  # request.url would contain the Host header
    if error.status_code == 404:
        return _error(NotFound(f"Unknown path {path}. Use POST /v1/chat/completions or GET /v1/models."))
    code = {405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    return _error(
        GatewayError(
            f"{request.method} is not allowed on {path}. The allow header lists the methods to use.",
            status=error.status_code,
            code=code,
            type="invalid_request_error",
            headers=headers,
        )
    )


async def _answer_incomplete_body(request: Request, error: CallerDisconnectedError) -> Response:
    return _error(BadRequest("The request body is incomplete.", code="invalid_json"))

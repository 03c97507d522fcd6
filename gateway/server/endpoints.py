"""What the callers' listener answers besides calls to models: lists of models, explanations, and refusals in OpenAI's shape."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.attempts.fit import described
from gateway.errors import BadRequest, GatewayError, NotFound
from gateway.explain.request import explain
from gateway.http.json_body import CallerDisconnectedError, check_body_headers, read_body
from gateway.http.request_id import next_id
from gateway.keys.authenticate import VirtualKey, may_use
from gateway.routing.router import unknown_model
from gateway.runtime.gateway import Gateway
from gateway.runtime.generation import Generation
from gateway.telemetry.call_log import internal_error


class Endpoints:
    """The handlers of one gateway. Every one asks for the key first."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def _authenticate(self, request: Request) -> tuple[Generation, VirtualKey | None]:
        """The generation that answers, and the caller's key in it."""
        generation = self._gateway.generation
        return generation, generation.keys.authenticate(request.scope["headers"], request.scope["query_string"])

    async def models(self, request: Request) -> Response:
        """GET /v1/models: what this key may ask for."""
        generation, key = self._authenticate(request)
        allowed = [name for name in generation.router.names() if may_use(key, name)]
        return _json({"object": "list", "data": [describe_model(generation, name, brief=True) for name in allowed]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}: one model, with what each of its targets honours and adjusts."""
        generation, key = self._authenticate(request)
        name = request.path_params["name"]
        if not name:
            return await self.models(request)
        generation.router.find(name)
        if not may_use(key, name):
            assert key is not None
            assert key.models is not None
            raise unknown_model(name, sorted(key.models))
        return _json(describe_model(generation, name))

    async def tcp_warming(self, request: Request) -> Response:
        """GET /v1/tcp_warming: Cerebras' client asks for this when it is made, to have a connection open."""
        return _json({"status": "ok"})

    async def explain(self, request: Request) -> Response:
        """POST /v1/explain: the plan for a chat body."""
        generation, key = self._authenticate(request)
        limit = generation.config.max_body
        check_body_headers(request.scope["headers"], limit)
        return _json(explain(generation, await read_body(request.receive, limit), request.headers, key))

    async def post_only(self, request: Request) -> Response:
        """A path of the pipeline, asked in another way."""
        self._authenticate(request)
        raise _post_only_error(request)

    async def http_error(self, request: Request, error: HTTPException) -> Response:
        """No such path; a stranger does not learn which paths there are."""
        try:
            self._authenticate(request)
        except GatewayError as refused:
            return _error(refused)
        return _http_error(request, error)

    async def internal_error(self, request: Request, error: Exception) -> Response:
        """An error of ours: logged and counted, and the answer has the id of the log line."""
        id = next_id()
        self._gateway.log.write(internal_error(id, error))
        self._gateway.metrics.count("lockgate_internal_errors")
        return _error(GatewayError("The gateway failed to handle this request. Its log has the request id."), id)

    def handlers(self) -> dict[Any, Any]:
        """How exceptions are answered."""
        return {
            GatewayError: _answer_error,
            HTTPException: self.http_error,
            CallerDisconnectedError: _answer_incomplete_body,
            Exception: self.internal_error,
        }


def _post_only_error(request: Request) -> GatewayError:
    return GatewayError(
        f"{request.scope['path']} takes POST, not {request.method}.",
        status=405,
        code="method_not_allowed",
        type="invalid_request_error",
        headers=((b"allow", b"POST"),),
    )


def describe_model(generation: Generation, name: str, *, brief: bool = False) -> dict[str, Any]:
    """One entry of /v1/models; with what the model honours and adjusts unless `brief`."""
    choices = generation.router.all_candidates(generation.router.find(name))
    found: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": choices[0].backend.target.provider}
    if not brief:
        targets = [choice.backend.target for choice in choices]
        found["targets"] = [{"target": one.name, "parameters": described(one.kind.capabilities(one.model))} for one in targets]
    return found


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, {"x-request-id": next_id()}, "application/json")


def _error(error: GatewayError, id: str | None = None) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body(), error.status, {"x-request-id": id or next_id(), **headers}, "application/json")


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


async def _answer_incomplete_body(request: Request, error: CallerDisconnectedError) -> Response:
    return _error(BadRequest("The request's body is incomplete.", code="invalid_json"))

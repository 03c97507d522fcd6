"""The callers' endpoints other than model calls: models, tokens, explanations and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.call import Call
from gateway.dialects.dialect import Dialect
from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.messages_api.models import list_models, to_model
from gateway.dialects.model_lists import model_form, model_list
from gateway.dialects.table import CHAT, MESSAGES, RESPONSES, deployment_api
from gateway.dialects.tokenize import DETOKENIZE, TOKENIZE
from gateway.errors import GatewayError, Headers, NotFound
from gateway.explain.count_tokens import count_tokens
from gateway.explain.model import describe_model
from gateway.explain.request import DryRun, explain
from gateway.explain.tokenize import answer_detokenize, answer_tokenize
from gateway.http.json_body import CallerDisconnectedError, check_body_headers, read_body_in_time
from gateway.http.request_id import next_id
from gateway.keys.virtual_key import VirtualKey, may_use
from gateway.routing.unknown_model import unknown_model
from gateway.runtime.gateway import Gateway
from gateway.runtime.generation import Generation
from gateway.server.error_responses import (
    answer_error,
    answer_incomplete_body,
    error_response,
    http_error_response,
    post_only_error,
    uses_messages_api,
)
from gateway.server.json_answers import json_answer
from gateway.telemetry.call_log import internal_error

Answer = Callable[[DryRun, Call, bytes, Headers], Awaitable[dict[str, Any]]]


class Endpoints:
    """The endpoints of one gateway. Each endpoint except `tcp_warming` and `health` checks the virtual key first."""

    def __init__(self, gateway: Gateway, dialect_of: Mapping[str, Dialect]) -> None:
        """`dialect_of` maps each path for model calls to its API."""
        self._gateway = gateway
        self._dialect_of = dialect_of

    async def _authenticate(self, request: Request) -> tuple[Generation, VirtualKey | None]:
        """Return the current generation and the caller's key in it."""
        generation = self._gateway.generation
        return generation, await generation.keys.identify(request.scope["headers"], request.scope["query_string"])

    async def models(self, request: Request) -> Response:
        """GET /v1/models: list the models that this key may use."""
        generation, key = await self._authenticate(request)
        allowed = [name for name in generation.router.names() if may_use(key, name)]
        if uses_messages_api(request):
            describe = partial(self._describe, generation, brief=True)
            return json_answer(request, list_models(allowed, request.query_params, describe))
        described = (self._describe(generation, name, brief=True) for name in allowed)
        return json_answer(request, model_list(request.scope["headers"], described))

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}: return one model with the parameters that each of its targets honours and those that it adjusts."""
        generation, key = await self._authenticate(request)
        name = request.path_params["name"]
        if not name:
            return await self.models(request)
        generation.router.find(name, key)
        if not may_use(key, name):
            assert key is not None
            assert key.models is not None
            raise unknown_model(name, sorted(key.models))
        if uses_messages_api(request):
            return json_answer(request, to_model(self._describe(generation, name, brief=True)))
        return json_answer(request, model_form(request.scope["headers"])(self._describe(generation, name)))

    def _describe(self, generation: Generation, name: str, *, brief: bool = False) -> dict[str, Any]:
        candidates = generation.router.all_candidates(generation.router.find(name))
        return describe_model(name, candidates, self._gateway.health.is_live, brief=brief)

    async def tcp_warming(self, request: Request) -> Response:
        """GET /v1/tcp_warming: answer the request with which a client object of the Cerebras SDK opens its connection."""
        return json_answer(request, {"status": "ok"})

    async def health(self, request: Request) -> Response:
        """GET /healthz: report that the process responds, if the configuration allows it on this listener."""
        if not self._gateway.generation.config.callers.health:
            raise NotFound("Health is not shown here: set callers.health to true, or use /healthz of the admin listener.")
        return json_answer(request, {"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: return the OpenAPI document of the callers' APIs, if the configuration allows it."""
        generation, _ = await self._authenticate(request)
        if not generation.config.callers.openapi:
            raise NotFound("The OpenAPI document is not shown here: set callers.openapi to true, or read it at the admin listener.")
        from gateway.openapi.document import document_json

        return Response(document_json("callers"), 200, {"x-request-id": next_id()}, "application/json")

    async def explain(self, request: Request) -> Response:
        """POST /v1/explain: explain how a chat body would be handled.

        Below the path of another API, explain a body of that API.
        """
        generation, key = await self._authenticate(request)
        source, headers = await _read(request, generation), request.scope["headers"]
        path = request.scope["path"].removesuffix("/explain")
        dialect = self._dialect_of.get(path) or deployment_api(path) or CHAT
        trace = generation.pipeline.begin_trace(headers)
        return json_answer(request, await explain(generation.dry_run(), source, headers, key, trace, dialect, path))

    async def count_tokens(self, request: Request) -> Response:
        """POST /v1/messages/count_tokens: count the tokens of a Messages request."""
        call = Call("chat", request.scope["path"], MESSAGES, MessagesTranslator(counts=True))
        return json_answer(request, await self._count(request, call))

    async def input_tokens(self, request: Request) -> Response:
        """POST /v1/responses/input_tokens: count the tokens of a request of the Responses API."""
        call = Call("chat", request.scope["path"], RESPONSES, RESPONSES.translator())
        return json_answer(request, {"object": "response.input_tokens", **await self._count(request, call)})

    async def tokenize(self, request: Request) -> Response:
        """POST /v1/tokenize: return the tokens of messages or of a text."""
        return await self._tokens(request, TOKENIZE, answer_tokenize)

    async def detokenize(self, request: Request) -> Response:
        """POST /v1/detokenize: return the text of tokens."""
        return await self._tokens(request, DETOKENIZE, answer_detokenize)

    async def _tokens(self, request: Request, dialect: Dialect, answer: Answer) -> Response:
        generation, key = await self._authenticate(request)
        source = await _read(request, generation)
        call = Call(dialect.operation, request.scope["path"], dialect, key=key)
        return json_answer(request, await answer(generation.dry_run(), call, source, request.scope["headers"]))

    async def _count(self, request: Request, call: Call) -> dict[str, Any]:
        generation, call.key = await self._authenticate(request)
        source = await _read(request, generation)
        return await count_tokens(generation.dry_run(), call, source, request.scope["headers"])

    async def post_only(self, request: Request) -> Response:
        """Reject methods other than POST on the paths that the pipeline serves."""
        await self._authenticate(request)
        raise post_only_error(request)

    async def http_error(self, request: Request, error: HTTPException) -> Response:
        """Reject an unknown path or method. Without a valid key, the response does not reveal which paths exist."""
        try:
            await self._authenticate(request)
        except GatewayError as refused:
            return error_response(request, refused)
        return http_error_response(request, error)

    async def internal_error(self, request: Request, error: Exception) -> Response:
        """Log and count an internal error. The response has the request id of the log line."""
        id = next_id()
        self._gateway.log.write(internal_error(id, error))
        self._gateway.metrics.count("lockgate_internal_errors")
        message = "Internal error: the gateway's log has the details under this request id."
        return error_response(request, GatewayError(message), id)

    def handlers(self) -> dict[Any, Any]:
        """Return the exception handlers."""
        return {
            GatewayError: answer_error,
            HTTPException: self.http_error,
            CallerDisconnectedError: answer_incomplete_body,
            Exception: self.internal_error,
        }


async def _read(request: Request, generation: Generation) -> bytes:
    config = generation.config
    check_body_headers(request.scope["headers"], config.max_body)
    return await read_body_in_time(request.receive, config.max_body, config.callers.body)

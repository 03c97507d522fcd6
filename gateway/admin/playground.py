"""Endpoints for the playground of the page, besides the callers' API: models with their routes, parameters, and explanations.

These endpoints answer with the operator's rights: no virtual key is needed, and all models are shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.dialects.described import Schema
from gateway.dialects.table import DIALECTS, call_paths
from gateway.errors import BadRequest, GatewayError
from gateway.explain.request import explain
from gateway.explain.route import plan_route, simulated_bodies
from gateway.http.json_body import parse_body, read_body_in_time
from gateway.runtime.gateway import Gateway
from gateway.targets.status import TargetView

DOORS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
"""The APIs that the playground offers."""
MODELS_PER_SLICE = 50
"""Number of models that are described before the event loop serves callers again. Providers may list hundreds."""


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /admin/explain: a call of the API at `path`."""

    body: msgspec.Raw
    path: str = DOORS[0]
    headers: dict[str, str] = {}


class PlaygroundAdmin:
    """The endpoints of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._dialects = call_paths(DIALECTS)

    async def models(self, request: Request) -> Response:
        """GET /admin/models: list the models, each with its route as a tree, its targets, and whether the configuration names it."""
        not_live = [view for view in self._gateway.target_views() if view.state != "live"]
        models = []
        for number, name in enumerate(self._gateway.generation.router.names()):
            if number % MODELS_PER_SLICE == MODELS_PER_SLICE - 1:
                await asyncio.sleep(0)
            models.append(await self._model(name, not_live))
        return json_response({"object": "list", "data": models})

    async def _model(self, name: str, not_live: Sequence[TargetView]) -> dict[str, Any]:
        """Describe one model.

        `not_live` contains the targets that are in cooldown or being probed. It is an argument, because reading the
        state of all targets again for each of 10,000 models would take minutes.
        """
        gateway = self._gateway
        router = gateway.generation.router
        model: dict[str, Any] = {"id": name, "configured": name in gateway.config.models, "targets": [], "route": None}
        try:
            model["targets"] = [candidate.backend.target.name for candidate in router.all_candidates(router.find(name))]
            bodies = simulated_bodies(name, 1, None, None)
            plan = await plan_route(router, gateway.config, name, bodies, {}, require_parameters=False, views=not_live)
        except GatewayError as error:
            return {**model, "refused": error.message}
        return {**model, "route": plan["route"]}

    async def parameters(self, request: Request) -> Response:
        """GET /admin/parameters: return the JSON Schemas of the parameters of each API that the playground offers."""
        from gateway.openapi import requests

        schemas = (requests.chat(), requests.messages(), requests.responses())
        return json_response({path: _offered(schema) for path, schema in zip(DOORS, schemas, strict=True)})

    async def explain(self, request: Request) -> Response:
        """POST /admin/explain: return the upstream requests of a call, or under `refused` the error that its caller would get."""
        gateway = self._gateway
        source = await read_body_in_time(request.receive, gateway.config.max_body, gateway.config.callers.body)
        parse_body(source)
        try:
            question = msgspec.json.decode(source, type=Question)
            headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in question.headers.items()]
        except (msgspec.DecodeError, UnicodeError) as error:
            raise BadRequest(f"Invalid request body: {error}.") from None
        dialect = self._dialects.get(question.path)
        if dialect is None:
            raise BadRequest(f"'path' must be the path of a call to a model, such as {DOORS[0]}.", param="path")
        try:
            plan = await explain(gateway.generation.dry_run(), bytes(question.body), headers, None, None, dialect, question.path)
        except GatewayError as error:
            fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
            return json_response({"refused": fields, "status": error.status})
        return json_response(plan)


def _offered(schema: Schema) -> dict[str, Schema]:
    """Return the parameters of a request, without `model` and those that are always refused."""
    return {name: each for name, each in schema["properties"].items() if name != "model" and each.get("type") != "null"}

"""GET and POST /admin/demo: the scripted providers of `lockgate serve --demo`. Other gateways answer 404."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.demo.demo import Demo, DemoChange
from gateway.errors import BadRequest, NotFound
from gateway.http.json_body import parse_body, read_body_in_time

MAX_BODY_BYTES = 64 << 10
BODY_TIMEOUT_S = 30.0


class DemoAdmin:
    """The endpoints of the demo."""

    def __init__(self, demo: Demo | None) -> None:
        self._demo = demo

    async def show(self, request: Request) -> Response:
        """GET /admin/demo: return the providers of the demo, and whether the demo sends calls."""
        return json_response(self._found().describe())

    async def change(self, request: Request) -> Response:
        """POST /admin/demo: change the behaviour of a provider, or start or stop the calls."""
        demo = self._found()
        source = await read_body_in_time(request.receive, MAX_BODY_BYTES, BODY_TIMEOUT_S)
        parse_body(source)
        try:
            change = msgspec.json.decode(source, type=DemoChange)
        except msgspec.DecodeError as error:
            raise BadRequest(f"Invalid request body: {error}.") from None
        if change.behaviour is not None and change.provider is None:
            raise BadRequest("'behaviour' requires 'provider', the name of the provider to change.", param="provider")
        try:
            demo.apply(change)
        except KeyError:
            raise BadRequest(f"'provider' must be one of {', '.join(demo.providers)}.", param="provider") from None
        return json_response(demo.describe())

    def _found(self) -> Demo:
        if self._demo is None:
            raise NotFound("This gateway has no scripted providers. Start one with: lockgate serve --demo.", code="no_demo")
        return self._demo

"""POST /admin/route: where calls for a model would go now, as the running gateway sees its targets. Nobody is called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.errors import BadRequest, GatewayError
from gateway.explain.route import bodies, joined, plan, refused
from gateway.runtime.gateway import Gateway

CALLS_PER_SLICE = 50
"""Draws between two looks at the event loop: callers are served meanwhile."""
MAX_CALLS = 10_000


class RouteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked: `n` calls for a model, all with these headers, and with this body or as short chats."""

    model: str
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CALLS)] = 1000
    headers: dict[str, str] = {}
    user: str | None = None
    body: dict[str, Any] | None = None
    require_parameters: bool = False


def route(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """The plan; `refused` says what callers would get where there is none."""

    async def answer(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await request.body(), type=RouteRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"The body is not what this takes: {error}.") from None
        sources = bodies(asked.model, asked.n, asked.user, asked.body)
        views, plans = gateway.target_views(), []
        try:
            for at in range(0, len(sources), CALLS_PER_SLICE):
                part = sources[at : at + CALLS_PER_SLICE]
                plans.append(plan(gateway.generation, asked.model, part, asked.headers, require=asked.require_parameters, views=views))
                await asyncio.sleep(0)
        except (GatewayError, UnicodeEncodeError) as error:
            return json_response({"refused": refused(error) if isinstance(error, GatewayError) else "a header holds what no header can carry"})
        return json_response(joined(plans))

    return answer

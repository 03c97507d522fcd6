"""POST /admin/route: plans where calls for a model would go now, given the state of the targets. No call is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.errors import BadRequest, GatewayError
from gateway.explain.path import plan_path
from gateway.explain.route import error_text, merge_plans, plan_route, simulated_bodies
from gateway.explain.route_request import RouteRequest
from gateway.http.json_body import parse_body, read_body_in_time
from gateway.runtime.gateway import Gateway

CALLS_PER_SLICE = 50
"""Number of calls that are planned before the event loop serves callers again."""


def route(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint. If there is no plan, `refused` in the response is the error that callers would get."""

    async def answer(request: Request) -> Response:
        try:
            source = await read_body_in_time(request.receive, gateway.config.max_body, gateway.config.callers.body)
            parse_body(source)
            question = msgspec.json.decode(source, type=RouteRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"Invalid request body: {error}.") from None
        bodies = simulated_bodies(question.model, question.n, question.user, question.body)
        views, plans = gateway.target_views(), []
        try:
            if (plan := plan_path(gateway.generation.pipeline.passed, question.model)) is not None:
                return json_response(plan)
            for start in range(0, len(bodies), CALLS_PER_SLICE):
                batch = bodies[start : start + CALLS_PER_SLICE]
                plans.append(
                    await plan_route(
                        gateway.generation.router.for_dry_runs(),
                        gateway.config,
                        question.model,
                        batch,
                        question.headers,
                        require_parameters=question.require_parameters,
                        views=views,
                    )
                )
                await asyncio.sleep(0)
        except (GatewayError, UnicodeEncodeError) as error:
            message = error_text(error) if isinstance(error, GatewayError) else "a header contains characters that HTTP cannot transmit"
            return json_response({"refused": message})
        return json_response(merge_plans(plans))

    return answer

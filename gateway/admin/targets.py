"""/admin/targets: the health, cooldown and load of each target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.runtime.gateway import Gateway


def list_targets(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint. With several workers, the endpoint shows the merged state of all of them."""

    async def targets(request: Request) -> Response:
        return json_response({"targets": gateway.target_views()})

    return targets

"""/admin/targets: how each target fares, which are left alone and until when, and what is there now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.runtime.gateway import Gateway


def list_targets(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """The targets of this process, or of all its workers as one."""

    async def targets(request: Request) -> Response:
        return json_response({"targets": gateway.target_views()})

    return targets

"""GET /admin/live: the data of the last 15 minutes that the page shows, in one response."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.errors import BadRequest
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader


def live(gateway: Gateway, reloader: Reloader, callers: tuple[str, int], *, has_demo: bool) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint.

    With the query parameter `since` (seconds since the epoch), the response has only the points whose interval ended after that time.
    `callers` is the address of the callers' listener, which the page names in its examples; `has_demo` is true if there are scripted
    providers.
    """

    async def answer(request: Request) -> Response:
        params = request.query_params
        unknown = next((name for name in params if name != "since"), None)
        if unknown is not None:
            raise BadRequest(f"Unknown query parameter '{unknown[:40]}'. Supported: since.", param=unknown[:40])
        try:
            since = float(params.get("since", "0"))
        except ValueError:
            since = math.nan
        if not math.isfinite(since):
            raise BadRequest("'since' must be a time in seconds since the epoch.", param="since")
        engines = {name: engine.state for name, engine in gateway.generation.engines.items()}
        state = {"targets": gateway.target_views(), "engines": engines, "configuration": reloader.describe()}
        return json_response({**gateway.live.describe(since), **state, "callers": _callers(gateway, callers), "demo": has_demo})

    return answer


def _callers(gateway: Gateway, address: tuple[str, int]) -> dict[str, Any]:
    """Return the URL of the callers' API, and whether a call needs a virtual key."""
    config, (host, port) = gateway.config, address
    scheme = "https" if config.tls is not None else "http"
    return {"url": f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}", "requires_keys": config.requires_keys}

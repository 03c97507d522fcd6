"""/healthz (liveness) and /readyz (readiness). Neither requires a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.runtime.gateway import Gateway


class Readiness:
    """Whether this process should receive calls. The server sets the two flags during startup and shutdown."""

    def __init__(self) -> None:
        self.serving = False
        self.draining = False


async def live(request: Request) -> Response:
    """Report that the process responds."""
    return json_response({"status": "ok"})


def ready(gateway: Gateway, readiness: Readiness) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of /readyz: 503 during startup, while an engine loads its model, and during shutdown; else 200."""

    async def readyz(request: Request) -> Response:
        engines = {name: engine.state for name, engine in gateway.generation.engines.items()}
        is_ready = readiness.serving and not readiness.draining and "starting" not in engines.values()
        status = "draining" if readiness.draining else "ready" if is_ready else "starting"
        return json_response({"status": status, "engines": engines}, 200 if is_ready else 503)

    return readyz

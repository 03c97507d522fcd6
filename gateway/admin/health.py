"""/healthz and /readyz: whether this process lives, and whether it should be sent calls. Neither asks for a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.runtime.gateway import Gateway


class Readiness:
    """Whether this process should be sent calls: set by the server as it starts and stops."""

    def __init__(self) -> None:
        self.serving = False
        self.draining = False


async def live(request: Request) -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


def ready(gateway: Gateway, readiness: Readiness) -> Callable[[Request], Awaitable[Response]]:
    """200 while calls should come here; 503 while engines start at first, and while the process drains."""

    async def readyz(request: Request) -> Response:
        engines = {name: engine.state for name, engine in gateway.generation.engines.items()}
        able = readiness.serving and not readiness.draining and "starting" not in engines.values()
        status = "draining" if readiness.draining else "ready" if able else "starting"
        return json_response({"status": status, "engines": engines}, 200 if able else 503)

    return readyz

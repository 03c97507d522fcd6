"""/metrics: what Prometheus reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.build import Gateway


def metrics(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Every counter in Prometheus' text format."""

    async def scrape(request: Request) -> Response:
        return Response(gateway.metrics.expose(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return scrape

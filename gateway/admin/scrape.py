"""/metrics for Prometheus: this instance, or with `?scope=fleet` all instances that share its store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Unavailable, refuse
from gateway.metrics.snapshot import Snapshot
from gateway.runtime.gateway import Gateway
from gateway.telemetry.fleet import FleetError


def metrics(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint, which answers in the format that the scraper accepts.

    A thread writes the text, so that callers do not wait.
    """

    async def scrape(request: Request) -> Response:
        snapshot = await _snapshot(gateway, request.query_params.get("scope", "instance"))
        wanted = "application/openmetrics-text" in request.headers.get("accept", "")
        body, media_type = await asyncio.to_thread(_write, snapshot, openmetrics=wanted)
        return Response(body, media_type=media_type)

    return scrape


def _write(snapshot: Snapshot, *, openmetrics: bool) -> tuple[bytes, str]:
    """Return the text of a snapshot and its media type."""
    from gateway.metrics import text  # only a gateway that is scraped needs prometheus-client, which takes more than 1 MB

    return (text.openmetrics(snapshot), text.OPENMETRICS) if openmetrics else (text.classic(snapshot), text.CLASSIC)


async def _snapshot(gateway: Gateway, scope: str) -> Snapshot:
    await gateway.refresh_budgets()
    if scope == "instance":
        return gateway.metrics.merged_snapshot()
    if scope != "fleet":
        raise refuse("scope", "'scope' must be 'instance' or 'fleet'.")
    if gateway.fleet is None:
        return gateway.metrics.merged_snapshot()
    try:
        return await gateway.fleet.merged_snapshot()
    except FleetError as error:
        raise Unavailable(f"The fleet's metrics are unavailable: the store did not answer ({error}).", code="store_unavailable") from None

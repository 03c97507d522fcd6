"""GET /admin/config shows the current configuration and the problems of a newer one. POST /admin/reload reads the file again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.config.masked import masked
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader


def show(gateway: Gateway, reloader: Reloader) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of GET /admin/config. Secrets are masked."""

    async def answer(request: Request) -> Response:
        state, config = reloader.describe(), gateway.config
        return await asyncio.to_thread(lambda: json_response({**state, "config": masked(config)}))

    return answer


def reload(reloader: Reloader) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of POST /admin/reload: 200 with the outcome, 422 if the file is invalid."""

    async def answer(request: Request) -> Response:
        outcome = await reloader.reload()
        return json_response({"outcome": outcome, **reloader.describe()}, 422 if outcome == "failed" else 200)

    return answer

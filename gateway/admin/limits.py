"""GET /admin/limits: what is used of the limits of keys, teams, models, providers and targets."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.errors import BadRequest, Unavailable
from gateway.limits.declared import declared_limits
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import NANO_PER_USD, OWNERS, Limit, LimitUsage

UNITS = {"requests": "requests", "concurrent": "calls", "spend": "USD"}
"""The units of kinds that do not count tokens."""


def list_limits(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint. `owner` selects the limits of one kind of owner, or of one owner such as `key:app`."""

    async def limits(request: Request) -> Response:
        params = request.query_params
        unknown = next((name for name in params if name != "owner"), None)
        if unknown is not None:
            raise BadRequest(f"Unknown query parameter '{unknown[:40]}'. Supported: owner.", param=unknown[:40])
        found = declared_limits(gateway.config, gateway.runtime_keys.entries)
        for owner in params.getlist("owner")[-1:]:
            found = [limit for limit in found if _belongs(limit, owner)]
        try:
            usages = await gateway.limit_usage(found)
        except StoreUnavailableError as error:
            message = f"The limits cannot be read: the store is unavailable ({error}). Try again later."
            raise Unavailable(message, code="store_unavailable") from None
        return json_response({"object": "list", "data": [usage_json(usage) for usage in usages]})

    return limits


def _belongs(limit: Limit, owner: str) -> bool:
    kind, colon, _ = owner.partition(":")
    if kind not in OWNERS:
        raise BadRequest(f"'owner' must be one of {', '.join(OWNERS)}, or an owner such as key:NAME.", param="owner")
    return limit.owner == owner if colon else limit.owner.startswith(f"{kind}:")


def usage_json(usage: LimitUsage) -> dict[str, Any]:
    """Return a limit and what is used of it. Money is in USD, and `reset_seconds` is null for a budget in total."""
    limit = usage.limit
    owner, _, name = limit.owner.partition(":")

    def amount(number: int) -> int | float:
        return number / NANO_PER_USD if limit.kind == "spend" else number

    return {
        "owner": owner,
        "name": name,
        "model": limit.model or None,
        "kind": limit.kind,
        "window": limit.window or None,
        "timezone": limit.timezone if limit.kind == "spend" else None,
        "unit": UNITS.get(limit.kind, "tokens"),
        "limit": amount(limit.amount),
        "used": amount(usage.used),
        "reserved": None if usage.reserved is None else amount(usage.reserved),
        "remaining": amount(usage.remaining),
        "reset_seconds": None if math.isinf(usage.reset_s) else round(usage.reset_s, 3),
    }

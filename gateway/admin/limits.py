"""GET /admin/limits: the usage of the limits of keys, teams, models, providers and targets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.config.key import TeamConfig
from gateway.errors import BadRequest, Unavailable
from gateway.keys.limit_states import usage_json
from gateway.limits.declared import caller_limits, declared_limits
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import OWNERS, Limit


def list_limits(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint. The query parameter `owner` selects one kind of owner, or one owner such as `key:app`."""

    async def limits(request: Request) -> Response:
        params = request.query_params
        unknown = next((name for name in params if name != "owner"), None)
        if unknown is not None:
            raise BadRequest(f"Unknown query parameter '{unknown[:40]}'. Supported: owner.", param=unknown[:40])
        found = declared_limits(gateway.config, gateway.runtime_keys.entries, _runtime_teams(gateway))
        for owner in params.getlist("owner")[-1:]:
            found = [limit for limit in found if _belongs(limit, owner)]
            found += caller_limits(gateway.config, owner.removeprefix("key:")) if owner.startswith("key:") else []
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


def _runtime_teams(gateway: Gateway) -> list[TeamConfig]:
    configured = gateway.config.teams
    return [team.entry for name, team in gateway.runtime_teams.by_name.items() if name not in configured]

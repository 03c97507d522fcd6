"""GET /v1/key: the permissions of a request's key or token, the usage of its limits, and the times of their resets."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Unavailable
from gateway.keys.limit_states import limit_states
from gateway.keys.virtual_key import VirtualKey
from gateway.runtime.gateway import Gateway
from gateway.server.json_answers import json_answer
from gateway.store.errors import StoreUnavailableError


class OwnKey:
    """The endpoint that describes a key to its holder. The response never contains the key or its hash."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def show(self, request: Request) -> Response:
        """GET /v1/key: describe the key of this request. The limits of the key include those of its team."""
        key = await self._gateway.generation.keys.identify(request.scope["headers"], request.scope["query_string"])
        key = key if key is not None else VirtualKey("")
        limits = [*key.limits, *(limit for _, limits in key.model_limits for limit in limits)]
        try:
            usages = await self._gateway.limit_usage(limits)
        except StoreUnavailableError:
            text = "The usage of this key cannot be read: the store is unavailable. Try again later."
            raise Unavailable(text, code="store_unavailable", retry_after=1.0) from None
        return json_answer(request, {**_describe(key), "limits": limit_states(usages)}, {"cache-control": "no-store"})


def _describe(key: VirtualKey) -> dict[str, Any]:
    """Return the permissions of a key, with the policy and the end user of a token.

    A key without a name stands for a caller of a gateway that requires no key.
    """
    expires = None if key.expires is None else datetime.fromtimestamp(key.expires, UTC).isoformat().replace("+00:00", "Z")
    return {
        "object": "key",
        "name": key.name or None,
        "team": key.team or None,
        "models": _sorted(key.models),
        "passthrough": _sorted(key.passthrough),
        "expires": expires,
        "strict": key.strict,
        **({} if key.policy is None else {"policy": key.policy, "end_user": key.end_user or None}),
    }


def _sorted(names: Collection[str] | None) -> list[str] | None:
    """Return the names in order, or None if all are allowed."""
    return None if names is None else sorted(names)

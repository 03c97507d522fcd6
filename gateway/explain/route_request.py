"""The body of POST /admin/route."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

MAX_CALLS = 10_000


class RouteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The calls to plan: `n` calls for a model with the same headers, and with `body` or short generated chats."""

    model: str
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CALLS)] = 1000
    headers: dict[str, str] = {}
    user: str | None = None
    body: dict[str, Any] | None = None
    require_parameters: bool = False

"""JSON answers of the callers' endpoints, with the request id under the name that the caller's API has for it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.http.request_id import next_id
from gateway.server.error_responses import uses_messages_api


def json_answer(request: Request, value: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a value as JSON. Anthropic's clients read the request id from `request-id`, all others from `x-request-id`."""
    id = next_id()
    named = {"request-id": id} if uses_messages_api(request) else {}
    return Response(msgspec.json.encode(value), 200, {**named, "x-request-id": id, **(headers or {})}, "application/json")

"""Error responses: their statuses from the tables of errors, and the schemas of their bodies in each API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from gateway.dialects.described import Schema
from gateway.dialects.messages_api.errors import TYPE_OF_STATUS
from gateway.errors import (
    FAILURES,
    BadRequest,
    Forbidden,
    GatewayError,
    LimitReached,
    NotFound,
    RequestTooLarge,
    Unauthorized,
    Unavailable,
)
from gateway.http.page_guard import CROSS_SITE, FOREIGN_HOST
from gateway.http.rejection import HEAD_TIMEOUT, HEAD_TOO_LARGE, INVALID_HOST, INVALID_HTTP, UPGRADE_UNSUPPORTED
from gateway.openapi.answers import record

_TEXT: Schema = {"type": "string", "minLength": 1}
_OR_NULL: Schema = {"type": ["string", "null"]}
_RECEIPT: Schema = {"$ref": "#/components/schemas/Receipt"}
_OF_MESSAGES = sorted({"invalid_request_error", "api_error", *TYPE_OF_STATUS.values()})

SCHEMAS: dict[str, Schema] = {
    "Error": record(
        {"error": record({"message": _TEXT, "type": _OR_NULL, "param": _OR_NULL, "code": _OR_NULL})},
        {"gateway": _RECEIPT},
    ),
    "CohereError": record({"message": _TEXT}, {"id": {"type": "string"}, "gateway": _RECEIPT}),
    "MessagesError": record(
        {
            "type": {"const": "error"},
            "error": record({"type": {"enum": _OF_MESSAGES}, "message": _TEXT}, {"param": _OR_NULL, "code": _OR_NULL}),
            "request_id": _OR_NULL,
        },
        {"gateway": _RECEIPT},
    ),
}

_CONNECTION = (INVALID_HTTP, INVALID_HOST, HEAD_TIMEOUT, HEAD_TOO_LARGE, UPGRADE_UNSUPPORTED, FOREIGN_HOST, CROSS_SITE)


def _statuses(*errors: type[GatewayError]) -> frozenset[int]:
    return frozenset(error.status for error in errors)


ANY = frozenset(problem[0] for problem in _CONNECTION) | _statuses(GatewayError, NotFound) | {405}
"""Error statuses of every path."""
KEYED = ANY | _statuses(Unauthorized, Forbidden, Unavailable)
"""Error statuses of a path that requires a key."""
READ = KEYED | _statuses(BadRequest, RequestTooLarge) | {408, 415}
"""Error statuses of a request with a body."""
CALL = READ | _statuses(LimitReached) | {row.status for row in FAILURES.values()}
"""Error statuses of a model call."""
OTHERS = frozenset({409})
"""Error statuses of some paths of the admin listener."""

_FORMS: Mapping[str, Schema] = {
    "Error": {"$ref": "#/components/schemas/Error"},
    "Cohere": {"anyOf": [{"$ref": "#/components/schemas/CohereError"}, {"$ref": "#/components/schemas/Error"}]},
    # the path or the header anthropic-version selects the second form; errors before both are read have the first one
    "Either": {"anyOf": [{"$ref": "#/components/schemas/Error"}, {"$ref": "#/components/schemas/MessagesError"}]},
}


def responses(statuses: Iterable[int], form: str, *, upstream: bool = False) -> dict[str, Any]:
    """Return the error responses of an operation. `form` is a key of `_FORMS`.

    `upstream` adds the statuses that an upstream chooses.
    """
    names = [*map(str, sorted(statuses)), *(["4XX"] if upstream else [])]
    return {name: {"$ref": f"#/components/responses/{form}{name}"} for name in names}


def components() -> dict[str, Any]:
    """Return the responses that operations refer to."""
    texts = {str(status): HTTPStatus(status).phrase for status in sorted(CALL | OTHERS)} | {
        "4XX": "The upstream's own error"
    }
    return {f"{form}{name}": _response(text, schema) for form, schema in _FORMS.items() for name, text in texts.items()}


def _response(description: str, schema: Schema) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": {"application/json": {"schema": schema}},
    }

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
from gateway.openapi import headers
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


_CALL = "Call"
"""Part of the names of the responses to model calls."""


def responses(statuses: Iterable[int], form: str, *, is_call: bool = False) -> dict[str, Any]:
    """Return the error responses of an operation. `form` is a key of `_FORMS`.

    `is_call` is True for calls of a model, which also have the statuses that an upstream chooses.
    """
    names = [*map(str, sorted(statuses)), *(["4XX"] if is_call else [])]
    return {name: {"$ref": f"#/components/responses/{form}{_CALL if is_call else ''}{name}"} for name in names}


def components() -> dict[str, Any]:
    """Return the responses that operations refer to: those of model calls, which have more headers, and the others."""
    texts = {str(status): HTTPStatus(status).phrase for status in sorted(CALL | OTHERS)}
    of_calls = {name: texts[name] for name in map(str, sorted(CALL))} | {"4XX": "The upstream's own error"}
    return {
        f"{form}{_CALL if is_call else ''}{name}": _response(form, name, text, is_call=is_call)
        for form in _FORMS
        for is_call in (False, True)
        for name, text in (of_calls if is_call else texts).items()
    }


def _response(form: str, status: str, description: str, *, is_call: bool) -> dict[str, Any]:
    return {
        "description": description,
        "headers": headers.of_error(status, is_call=is_call, may_be_messages=form == "Either"),
        "content": {"application/json": {"schema": _FORMS[form]}},
    }

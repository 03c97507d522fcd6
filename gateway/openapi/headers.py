"""Request and response headers of the callers' APIs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.dialects.described import Schema
from gateway.dialects.gateway_headers import BOOLEANS, RECEIPTS

_FLAG: Schema = {"type": "string", "enum": [name.decode() for name in BOOLEANS]}
_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNT: Schema = {"type": "string", "pattern": "^[0-9]+$"}

REQUEST: dict[str, tuple[Schema, str]] = {
    "x-gateway-strict": (_FLAG, "Reject parameters that a target cannot honour instead of adjusting them."),
    "x-gateway-require-parameters": (_FLAG, "Skip targets that would drop or change a parameter."),
    "x-gateway-receipt": (
        {"type": "string", "enum": [name.decode() for name in RECEIPTS]},
        "`body`: add the receipt to the response body; `header`: only in the headers (default).",
    ),
    "cache-control": (_TEXT, "For models with a cache: `no-store`, `no-cache` or `max-age=SECONDS`."),
    "x-gateway-tags": (_TEXT, "Names of `tags` in the configuration, separated by commas. Usage is added up for each of them."),
    "x-gateway-credential-PROVIDER": (_TEXT, "The caller's own credential for a provider, if the key allows it."),
    "x-request-id": (_TEXT, "The caller's id, which the log and `x-client-request-id` repeat."),
}
"""Request headers that the gateway reads, with their schema and use. Vendors define further headers."""

RESPONSE: dict[str, tuple[Schema, str]] = {
    "x-request-id": (_TEXT, "The id of the call, as in the log."),
    "x-client-request-id": (_TEXT, "The caller's own x-request-id."),
    "x-gateway-target": (_TEXT, "The target that answered."),
    "x-gateway-attempts": (_COUNT, "The number of attempts, including hedges."),
    "x-gateway-adjusted": (_TEXT, "The adjustments, as an RFC 8941 list of at most 1 KiB."),
    "x-gateway-cache": (_TEXT, "For models with a cache: `hit` with its `age` in seconds, `miss` or `bypass`."),
    "x-gateway-limits": (_TEXT, "`degraded`: limits were checked without the store."),
    "server-timing": (_TEXT, "Milliseconds in the gateway, in a queue, in earlier attempts (`retries`) and at the upstream."),
    "x-ratelimit-limit-requests": (_COUNT, "The tightest limit on requests."),
    "x-ratelimit-remaining-requests": (_COUNT, "The remaining amount of the tightest limit on requests."),
    "x-ratelimit-reset-requests": (_TEXT, "Time until the whole limit is available again, such as `6m0s`."),
    "x-ratelimit-limit-tokens": (_COUNT, "The tightest limit on tokens."),
    "x-ratelimit-remaining-tokens": (_COUNT, "The remaining amount of the tightest limit on tokens."),
    "x-ratelimit-reset-tokens": (_TEXT, "Time until the whole limit is available again."),
    "anthropic-ratelimit-requests-limit": (_COUNT, "Messages API: the tightest limit on requests."),
    "anthropic-ratelimit-requests-remaining": (_COUNT, "Messages API: the remaining amount of the tightest limit on requests."),
    "anthropic-ratelimit-requests-reset": (_TIME, "Messages API: when the whole limit is available again."),
    "anthropic-ratelimit-tokens-limit": (_COUNT, "Messages API: the tightest limit on tokens."),
    "anthropic-ratelimit-tokens-remaining": (_COUNT, "Messages API: the remaining amount of the tightest limit on tokens."),
    "anthropic-ratelimit-tokens-reset": (_TIME, "Messages API: when the whole limit is available again."),
    "retry-after": (_COUNT, "Seconds to wait before a retry."),
    "retry-after-ms": (_COUNT, "The same in milliseconds."),
    "x-should-retry": (_TEXT, "`false`: the same request will fail again."),
    "www-authenticate": (_TEXT, "`Bearer`: the request needs a valid key."),
    "allow": (_TEXT, "The methods of the path."),
    "x-upstream-request-id": (_TEXT, "The upstream's id of the request."),
    "cache-control": (_TEXT, "Streams: `no-cache`."),
    "x-accel-buffering": (_TEXT, "Streams: `no`, so that proxies pass each event at once."),
    "request-id": (_TEXT, "Messages API: the same as x-request-id."),
}
"""Response headers, with their schema and meaning. Each response has those that apply. Some headers of upstreams are not listed."""

_MESSAGES_LIMIT = "anthropic-ratelimit-"
_OF_STREAMS = frozenset({"cache-control", "x-accel-buffering"})
_OF_ANSWERS = _OF_STREAMS | {"x-upstream-request-id"}
_OF_ERRORS = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})
_OF_STATUS = {"www-authenticate": "401", "allow": "405"}


def components() -> dict[str, Any]:
    """Return the response headers as components."""
    return {
        name: {"description": text, "schema": schema, **({"required": True} if name == "x-request-id" else {})}
        for name, (schema, text) in RESPONSE.items()
    }


def of_answer(*, is_messages: bool, streams: bool) -> dict[str, Any]:
    """Return references to the headers of a model's answer."""
    left_out = _OF_ERRORS | _OF_STATUS.keys() | (frozenset() if streams else _OF_STREAMS)
    return _refer(name for name in _of_calls(is_messages=is_messages) if name not in left_out)


def of_other_answer(*, may_be_messages: bool) -> dict[str, Any]:
    """Return references to the headers of an answer that is not that of a model."""
    return _refer(("x-request-id", "request-id") if may_be_messages else ("x-request-id",))


def of_error(status: str, *, is_call: bool, may_be_messages: bool) -> dict[str, Any]:
    """Return references to the headers of an error with a status such as `401` or `4XX`. `is_call`: of a model call."""
    own = [name for name, code in _OF_STATUS.items() if code == status]
    if is_call:
        left_out = _OF_ANSWERS | _OF_STATUS.keys()
        return _refer([*(name for name in _of_calls(is_messages=may_be_messages) if name not in left_out), *own])
    retry = {"400": ["x-should-retry"], "503": sorted(_OF_ERRORS)}.get(status, [])
    return {**of_other_answer(may_be_messages=may_be_messages), **_refer([*retry, *own])}


def _of_calls(*, is_messages: bool) -> list[str]:
    """Return the headers of model calls, with the names of rate limits and of the request id in the API."""
    other_limits = "x-ratelimit-" if is_messages else _MESSAGES_LIMIT
    return [name for name in RESPONSE if not name.startswith(other_limits) and (is_messages or name != "request-id")]


def _refer(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def parameters() -> dict[str, Any]:
    """Return the request headers as components."""
    return {
        name: {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, (schema, text) in REQUEST.items()
    }

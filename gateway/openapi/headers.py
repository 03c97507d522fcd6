"""Request and response headers of the callers' APIs."""

from __future__ import annotations

from typing import Any

from gateway.dialects.described import Schema
from gateway.dialects.gateway_headers import BOOLEANS, RECEIPTS

_FLAG: Schema = {"type": "string", "enum": [name.decode() for name in BOOLEANS]}
_TEXT: Schema = {"type": "string"}
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
    "retry-after": (_COUNT, "Seconds to wait before a retry."),
    "retry-after-ms": (_COUNT, "The same in milliseconds."),
    "x-should-retry": (_TEXT, "`false`: the same request will fail again."),
    "request-id": (
        _TEXT,
        "Messages API: the same as x-request-id. Its rate-limit headers begin with anthropic-ratelimit-.",
    ),
}
"""Response headers, with their schema and meaning. Each response has those that apply."""


def components() -> dict[str, Any]:
    """Return the response headers as components."""
    return {
        name: {"description": text, "schema": schema, **({"required": True} if name == "x-request-id" else {})}
        for name, (schema, text) in RESPONSE.items()
    }


def of_answer() -> dict[str, Any]:
    """Return references to the headers of a model's answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in RESPONSE}


def parameters() -> dict[str, Any]:
    """Return the request headers as components."""
    return {
        name: {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, (schema, text) in REQUEST.items()
    }

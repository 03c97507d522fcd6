"""The plan for one request: its route, and for each target the exact upstream request or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.attempts.fit import OVERFLOW_PARAM, PROMPT_LIMIT_PARAM, Fit, FitRequest
from gateway.config.types import Config
from gateway.dialects.gateway_headers import read_flag
from gateway.dialects.parameters import check_parameters, read_model
from gateway.emulate.adapt import adapt_body
from gateway.errors import Forbidden, unreadable
from gateway.http.json_body import parse_body
from gateway.keys.virtual_key import VirtualKey, may_use
from gateway.routing.router import Router
from providers.base import Body, Refusal
from providers.rules.shapes import fan_out

if TYPE_CHECKING:
    from gateway.targets.candidate import Candidate

MASKED_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie"})


def explain(
    router: Router,
    config: Config,
    fit: Fit,
    source: bytes,
    headers: Mapping[str, str],
    key: VirtualKey | None = None,
) -> dict[str, Any]:
    """Return route and upstream requests for a chat body. Raise the GatewayError that a caller would get."""
    try:
        return _explain(router, config, fit, parse_body(source), headers, key)
    except msgspec.DecodeError as error:
        raise unreadable(error) from None


def _explain(
    router: Router, config: Config, fit: Fit, body: Body, headers: Mapping[str, str], key: VirtualKey | None
) -> dict[str, Any]:
    name = read_model(body)
    model = router.find(name)
    if not may_use(key, name):
        raise Forbidden(f"The key '{key.name if key else ''}' may not use the model '{model.name}'.", param="model")
    check_parameters(body)
    header = headers.get("x-gateway-strict", "false").encode("latin-1", "replace")
    strict = read_flag(b"x-gateway-strict", header) or config.strict or (key is not None and key.strict)
    return {
        "model": name,
        "route": model.name,
        "strict": strict,
        "targets": [_plan_for(fit, candidate, body.copy(), strict) for candidate in router.all_candidates(model)],
    }


def _context_plan(fit: Fit, candidate: Candidate, body: Body, strict: bool) -> FitRequest | None:
    """Return how the gateway would handle the context window, without counting tokens. None: no handling."""
    context = candidate.settings.context
    if context is None and OVERFLOW_PARAM not in body and PROMPT_LIMIT_PARAM not in body:
        return None
    return fit.asked(body, candidate.backend, context, strict=strict)


def _plan_for(fit: Fit, candidate: Candidate, body: Body, strict: bool) -> dict[str, Any]:
    target = candidate.backend.target
    strict = strict or bool(candidate.settings.strict)
    plan: dict[str, Any] = {"target": target.name, "type": target.kind.type}
    try:
        context = _context_plan(fit, candidate, body, strict)
        if context is not None:
            plan["context"] = context.limits
        adapted = adapt_body(body, target, "chat", strict=strict, stream=body.get("stream") is True)
        plan["adjustments"] = [*(context.adjustments if context else ()), *adapted.adjustments]
        calls = next((one.from_ for one in plan["adjustments"] if one.action == "fan_out"), 1)
        bodies = fan_out(adapted.body, calls) if calls > 1 else [adapted.body]
        requests = [target.kind.encode(each, target, adapted.options) for each in bodies]
    except Refusal as refusal:
        error = {
            "message": refusal.message,
            "type": "invalid_request_error",
            "param": refusal.param,
            "code": refusal.code,
        }
        return {**plan, "error": error}
    masked = MASKED_HEADERS | {name for name, _ in target.headers}  # configured headers may hold secrets
    origin = candidate.backend.origin
    address = f"unix:{target.provider}" if origin.socket else f"{origin.scheme}://{origin.host}:{origin.port}"
    first = requests[0]
    contents = [msgspec.Raw(request.body) for request in requests]
    plan["request"] = {
        "method": first.method,
        "url": address.removesuffix(":443" if origin.scheme == "https" else ":80") + first.path,
        "headers": {name: "***" if name in masked else value for name, value in first.headers},
        **({"body": contents[0]} if len(contents) == 1 else {"bodies": contents}),
    }
    return plan

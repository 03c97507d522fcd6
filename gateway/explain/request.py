"""The whole plan for a request, without calling anyone: route, and for each target the exact upstream request or why it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.attempts.fit import BEHAVIOUR, LIMIT, Asked, Fit
from gateway.dialects.gateway_headers import read_flag
from gateway.dialects.parameters import check_parameters, read_model
from gateway.emulate import json_mode
from gateway.errors import Forbidden, GatewayError, unreadable
from gateway.http.json_body import parse_body
from gateway.keys.authenticate import VirtualKey, may_use
from providers.base import Body, Options, Refusal
from providers.rules.shapes import fan_out

if TYPE_CHECKING:
    from gateway.runtime.generation import Generation
    from gateway.targets.candidate import Candidate

MASKED = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie"})


def explain(generation: Generation, source: bytes, headers: Mapping[str, str], key: VirtualKey | None = None) -> dict[str, Any]:
    """Route and upstream requests for a chat body; BadRequest, Forbidden or NotFound where serving would answer so too."""
    try:
        return _explain(generation, parse_body(source), headers, key)
    except msgspec.DecodeError as error:
        raise unreadable(error) from None


def _explain(generation: Generation, body: Body, headers: Mapping[str, str], key: VirtualKey | None) -> dict[str, Any]:
    model = read_model(body)
    found = generation.router.find(model)
    if not may_use(key, model):
        raise Forbidden(f"The key '{key.name if key else ''}' may not use the model '{found.name}'.", param="model")
    check_parameters(body)
    strict = generation.config.strict or (key is not None and key.strict)
    strict = read_flag(b"x-gateway-strict", headers.get("x-gateway-strict", "false").encode("latin-1", "replace")) or strict
    choices = generation.router.all_candidates(found)
    return {
        "model": model,
        "route": found.name,
        "strict": strict,
        "targets": [_plan(generation.pipeline.failover.fit, choice, body.copy(), strict) for choice in choices],
    }


def _fitting(fit: Fit, choice: Candidate, body: Body, strict: bool) -> Asked | None:
    """What the gateway would see to itself about the context window; counting is left to the call."""
    if choice.settings.context is None and BEHAVIOUR not in body and LIMIT not in body:
        return None
    return fit.asked(body, choice.backend, choice.settings.context, strict=strict)


def _plan(fit: Fit, choice: Candidate, body: Body, strict: bool) -> dict[str, Any]:
    target = choice.backend.target
    options = Options(strict or bool(choice.settings.strict), body.get("stream") is True)
    plan: dict[str, Any] = {"target": target.name, "type": target.kind.type}
    try:
        fitting = _fitting(fit, choice, body, strict or bool(choice.settings.strict))
        if fitting is not None:
            plan["context"] = fitting.limits
        body, adjustments, _ = json_mode.adapt(body, target, options)
        plan["adjustments"] = [*(fitting.adjustments if fitting else ()), *adjustments]
        calls = next((one.from_ for one in plan["adjustments"] if one.action == "fan_out"), 1)
        requests = [target.kind.encode(one, target, options) for one in (fan_out(body, calls) if calls > 1 else [body])]
    except Refusal as refusal:
        error = {"message": refusal.message, "type": "invalid_request_error", "param": refusal.param, "code": refusal.code}
        return {**plan, "error": error}
    secret = MASKED | {name for name, _ in target.headers}  # the operator's own headers come from secrets
    origin = choice.backend.origin
    address = f"unix:{target.provider}" if origin.socket else f"{origin.scheme}://{origin.host}:{origin.port}"
    request = requests[0]
    bodies = [msgspec.Raw(one.body) for one in requests]
    plan["request"] = {
        "method": request.method,
        "url": address.removesuffix(":443" if origin.scheme == "https" else ":80") + request.path,
        "headers": {name: "***" if name in secret else value for name, value in request.headers},
        **({"body": bodies[0]} if len(bodies) == 1 else {"bodies": bodies}),
    }
    return plan


def explain_file(config_path: str, source: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """The same for a configuration file, for the command line; errors come back as the answer a caller would get."""
    from gateway.config import load as config
    from gateway.runtime.gateway import Gateway
    from gateway.telemetry.call_log import CallLog

    gateway = Gateway(config.load(config_path), CallLog(2, human=True), lambda line: None)
    try:
        return explain(gateway.generation, source, headers)
    except GatewayError as error:
        decoded: dict[str, Any] = msgspec.json.decode(error.body())
        return {"status": error.status, **decoded}

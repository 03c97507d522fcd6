"""The plan for one request: its route, and for each target the exact upstream request or the reason why there is none.

The code that serves calls also reads, fits, adapts and encodes the request here; the request is not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.attempts.hook_points import hook_request
from gateway.attempts.prepare import AdaptedRequest, RequestAdapter
from gateway.call import Attempt, Call, CallTrace
from gateway.config.types import Config
from gateway.dialects.dialect import Dialect, in_callers_terms
from gateway.dialects.table import CHAT
from gateway.errors import unreadable
from gateway.explain.read import read_call
from gateway.keys.virtual_key import VirtualKey
from gateway.native.choice import translation_reason
from gateway.response.deliver import upstream_bodies
from gateway.response.trace_context import add_trace_headers
from gateway.routing.router import Router
from providers.base import Refusal, Target, WireRequest

if TYPE_CHECKING:
    from gateway.dialects.request_headers import KnownHeaders
    from gateway.hooks.run import HookSet
    from gateway.response.response_storage import ResponseStorage
    from gateway.targets.candidate import Candidate

MASKED_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie"})


class DryRun(msgspec.Struct, frozen=True):
    """The parts of a generation that planning a call requires."""

    router: Router
    config: Config
    requests: RequestAdapter
    known: KnownHeaders
    storage: ResponseStorage
    hooks: HookSet | None = None


async def explain(
    run: DryRun,
    source: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    key: VirtualKey | None = None,
    trace: CallTrace | None = None,
    dialect: Dialect = CHAT,
    path: str = "/v1/chat/completions",
) -> dict[str, Any]:
    """Return the route and the upstream requests for a body. Raise the GatewayError that a caller would get.

    `dialect` is the API of the body, and `path` is the path of its calls, which may name an Azure deployment.
    """
    call = Call(dialect.operation, path, dialect, dialect.translator(), key=key, trace=trace)
    await run.storage.load_previous(call, source)
    model = read_call(call, source, headers, run.router, run.config, run.known)
    await hook_request(run.hooks, call)
    try:
        run.requests.note_strict_limits(call)
        targets = [await _plan_for(run.requests, call, candidate) for candidate in run.router.all_candidates(model)]
    except msgspec.DecodeError as error:
        raise unreadable(error) from None
    return {"model": call.model, "route": model.name, "strict": call.strict, "targets": targets}


async def _plan_for(adapter: RequestAdapter, call: Call, candidate: Candidate) -> dict[str, Any]:
    target = candidate.backend.target
    plan: dict[str, Any] = {"target": target.name, "type": target.kind.type}
    if candidate.settings.fallback_on:
        plan["fallback_on"] = candidate.settings.fallback_on
    try:
        limits = adapter.context_limits(call, candidate)
        if limits is not None:
            plan["context"] = msgspec.structs.asdict(limits)
        request = await adapter.prepare(call, candidate, target, float("inf"))
        requests = _requests(call, target, request)
    except Refusal as refusal:
        told = in_callers_terms(refusal, call.translator)
        error = {"message": told.message, "type": "invalid_request_error", "param": told.param, "code": told.code}
        return {**plan, "error": error}
    if call.dialect.native is not None:
        reason = translation_reason(call, target, candidate.settings)
        plan |= {"native": True} if reason is None else {"native": False, "translated_because": reason}
    if request.context is not None:
        plan["context"] |= msgspec.structs.asdict(request.context)
    plan["adjustments"] = [*(call.hooks.adjustments if call.hooks is not None else ()), *request.adjustments]
    masked = MASKED_HEADERS | {name for name, _ in target.headers}  # configured headers may hold secrets
    origin = candidate.backend.origin
    address = f"unix:{target.provider}" if origin.socket else f"{origin.scheme}://{origin.host}:{origin.port}"
    first = requests[0]
    contents = [msgspec.Raw(one.body) for one in requests]
    plan["request"] = {
        "method": first.method,
        "url": address.removesuffix(":443" if origin.scheme == "https" else ":80") + first.path,
        "headers": {name: "***" if name in masked else value for name, value in first.headers},
        **({"body": contents[0]} if len(contents) == 1 else {"bodies": contents}),
    }
    return plan


def _requests(call: Call, target: Target, request: AdaptedRequest) -> list[WireRequest]:
    """Return the requests as UpstreamExchange encodes them; of chained requests, only the first."""
    options = request.adapted.options
    attempt = Attempt(target, adjustments=request.adjustments)
    if call.trace is not None:
        call.trace.begin(attempt)
    requests = []
    for body in upstream_bodies(request.adapted.body, attempt):
        chain = target.kind.chained(body, options)
        requests.append(target.kind.encode(body if chain is None else next(chain), target, options))
        add_trace_headers(call, target, requests[-1])
    return requests

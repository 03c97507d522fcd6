"""The request of a native attempt: the caller's own request, with the changes that the target requires."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.call import Call
from gateway.dialects.native_api import NativeApi
from gateway.emulate.adapt import AdaptedBody
from gateway.native.choice import native_api
from gateway.targets.candidate import Candidate
from providers.base import Body, Options, Refusal, Target


def adapt_natively(call: Call, body: Body, api: NativeApi, target: Target, *, strict: bool) -> AdaptedBody:
    """Apply the target's rules to `body`, a copy of the caller's request. Raise Refusal if the target cannot honour it."""
    if call.headers is not None:
        vendor = call.headers.vendor
        body.headers |= {name: vendor[name] for name in api.headers if name in vendor}
    options = Options(strict, call.stream, api.operation)
    made = api.prepare(body, call.translator, strict) if api.prepare is not None else []
    return AdaptedBody(body, options, [*made, *target.kind.adapt(body, target, options)])


def refusal_of(call: Call, *, strict: bool = False) -> Refusal | None:
    """Return the reason why a call cannot be sent as a chat completion, or None. A strict attempt may not lose any field."""
    translator = call.translator
    error = None if translator is None else translator.refusal or (translator.loss if strict else None)
    return Refusal(error.message, error.param, error.code or "invalid_value") if error is not None else None


def check_expressible(call: Call, candidates: Iterable[Candidate]) -> None:
    """Raise BadRequest for a request that a chat completion cannot express, unless it is native at a candidate."""
    if call.translator is None or (refusal := call.translator.refusal) is None:
        return
    if not any(native_api(call, candidate.backend.target, candidate.settings) for candidate in candidates):
        raise refusal

"""The request for one target: the caller's body, fitted into the context window and adapted to the provider's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.attempts.continuation import continued_body, set_prefill
from gateway.attempts.count_prompt import PromptCount, count_prompt
from gateway.attempts.fit import Fit
from gateway.call import Call
from gateway.dialects.dialect import Translator
from gateway.dialects.forwarded_headers import forward_headers
from gateway.dialects.native_api import NativeApi
from gateway.emulate.adapt import AdaptedBody, adapt_body
from gateway.errors import unreadable
from gateway.limits.bounds import set_output_cap
from gateway.native.choice import is_fitted, native_api
from gateway.native.request import adapt_natively, refusal_of
from gateway.store.limit import has_strict_limit
from gateway.targets.candidate import Candidate
from gateway.upstream.transport import Deadlines
from providers.base import Adjustment, Failure, Target

if TYPE_CHECKING:
    from gateway.limits.enforce import Limits
    from gateway.tokens.truncation import ContextReport, WindowLimits

FORWARDED_TIMEOUT_SHARE = 0.9
"""Share of a forwarded time limit after which a 429 counts as a timeout, because a rate limit is reported at once."""


class AdaptedRequest(msgspec.Struct, frozen=True):
    """The request for one target."""

    adapted: AdaptedBody
    adjustments: list[Adjustment]
    context: ContextReport | None
    """The report on how the conversation was fitted into the context window."""
    native: NativeApi | None = None
    """The caller's API if the request is native; otherwise None."""


class RequestAdapter:
    """Makes the requests of all calls of one configuration."""

    def __init__(self, fit: Fit, limits: Limits | None) -> None:
        """If `limits` is None, no limits are configured."""
        self._fit = fit
        self._limits = limits
        self._has_target_limits = limits is not None and limits.has_target_limits

    async def prepare(self, call: Call, candidate: Candidate, target: Target, left: float) -> AdaptedRequest:
        """Return the request for a target. Raise Refusal if the target cannot honour the call."""
        cap = None
        if self._limits is not None and (call.strict_limits or self._has_target_limits):
            cap = self._limits.reserved_output_cap(call, target)
        return await adapt(self._fit, call, candidate, target, left, cap)

    async def count(self, call: Call, candidate: Candidate) -> PromptCount:
        """Count the tokens of a prompt at a candidate."""
        assert call.body is not None
        return await count_prompt(call.body, candidate, engines_run=self._fit.engines_run)

    def note_strict_limits(self, call: Call) -> None:
        """Set `strict_limits` of a call for which nothing is reserved, as in a dry run."""
        if self._limits is not None:
            call.strict_limits = has_strict_limit(self._limits.of_caller(call, call.route))

    def context_limits(self, call: Call, candidate: Candidate) -> WindowLimits | None:
        """Return the limits into which the conversation is fitted at a candidate, or None if it is not fitted."""
        assert call.body is not None
        if not is_fitted(call, candidate.settings):
            return None
        strict = call.strict or bool(candidate.settings.strict)
        return self._fit.asked(call.body.copy(), candidate.backend, candidate.settings.context, strict=strict).limits


async def adapt(
    fit: Fit, call: Call, candidate: Candidate, target: Target, left: float, cap: int | None = None
) -> AdaptedRequest:
    """Fit the body into the context window and apply the provider's rules.

    Raise Refusal if the target cannot honour the request. `cap` is the output that a strict limit reserved for a call
    that sets no cap.
    """
    assert call.body is not None
    settings = candidate.settings
    strict = call.strict or bool(settings.strict)
    if (api := native_api(call, target, settings)) is not None:
        return _adapt_natively(call, api, target, strict=strict, cap=cap)
    if (refusal := refusal_of(call, strict=strict)) is not None:
        raise refusal
    transcript = call.transcript if call.transcript is not None and call.transcript.handovers else None
    body, continued = (call.body.copy(), []) if transcript is None else continued_body(transcript, call, call.body)
    context, adjustments = None, continued
    try:
        if is_fitted(call, settings):
            deadlines = cap_to_time_left(candidate.deadlines, left)
            fitted = await fit.apply(
                body, candidate.backend, settings.context, deadlines, strict=strict, report=call.wants_receipt
            )
            context, adjustments = fitted.report, [*continued, *fitted.adjustments]
        if cap is not None:
            adjustments = [*adjustments, set_output_cap(body, cap)]
        if call.translator is not None:
            adjustments = [*adjustments, *call.translator.fit_to(body, target, strict=strict)]
        adapted = adapt_body(
            body, target, call.operation, strict=strict, stream=call.stream, may_repair=bool(settings.json_repair)
        )
        if transcript is not None:
            set_prefill(transcript, adapted.body, target)
        adjustments = [*adjustments, *adapted.adjustments]
        if call.headers is not None and call.headers.vendor:
            adjustments += forward_headers(call.headers, target, adapted.body, strict=strict)
        if call.translator is not None:
            adjustments = as_caller_wrote(adjustments, call.translator)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    return AdaptedRequest(adapted, adjustments, context)


def adapt_now(call: Call, candidate: Candidate, target: Target) -> AdaptedRequest:
    """Return the result of `adapt` for a call that is neither fitted nor continued and has no reserved output cap."""
    assert call.body is not None
    settings, translator = candidate.settings, call.translator
    strict = call.strict or bool(settings.strict)
    if translator is not None:
        if (api := native_api(call, target, settings)) is not None:
            return _adapt_natively(call, api, target, strict=strict, cap=None)
        if (refusal := refusal_of(call, strict=strict)) is not None:
            raise refusal
    try:
        body = call.body.copy()
        translated = translator.fit_to(body, target, strict=strict) if translator is not None else []
        adapted = adapt_body(body, target, call.operation, strict=strict, stream=call.stream)
        adjustments = [*translated, *adapted.adjustments] if translated else adapted.adjustments
        if call.headers is not None and call.headers.vendor:
            adjustments = [*adjustments, *forward_headers(call.headers, target, adapted.body, strict=strict)]
        if translator is not None:
            adjustments = as_caller_wrote(adjustments, translator)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    return AdaptedRequest(adapted, adjustments, None)


def _adapt_natively(call: Call, api: NativeApi, target: Target, *, strict: bool, cap: int | None) -> AdaptedRequest:
    """Return the caller's own request as the target gets it. Raise Refusal if the target cannot honour the request."""
    assert call.source is not None
    body = call.source.copy()
    adjustments = [set_output_cap(body, cap, api.output_cap)] if cap is not None else []
    adapted = adapt_natively(call, body, api, target, strict=strict)
    adjustments += adapted.adjustments
    if call.headers is not None and call.headers.vendor:
        adjustments += forward_headers(call.headers, target, adapted.body, strict=strict)
    return AdaptedRequest(adapted, adjustments, None, api)


def as_caller_wrote(adjustments: Sequence[Adjustment], translator: Translator) -> list[Adjustment]:
    """Return the adjustments of the translation, then the others with the caller's names for the parameters.

    Adjustments of `stream_options` are left out, because a caller of another API always gets the usage. Renames of a
    parameter to the name that the caller used are left out as well.
    """
    renamed = [
        msgspec.structs.replace(each, param=translator.param(each.param))
        for each in adjustments
        if each.param != "stream_options"
    ]
    return [*translator.adjustments, *(each for each in renamed if each.action != "rename" or each.param != each.to)]


def cap_to_time_left(deadlines: Deadlines, left: float) -> Deadlines:
    """Return the deadlines, with a total of at most `left` seconds."""
    if left > deadlines.total - 0.01:
        return deadlines
    return Deadlines(deadlines.connect, deadlines.tls, deadlines.first_byte, deadlines.idle, left)


def attempt_deadlines(candidate: Candidate, call: Call, left: float) -> Deadlines:
    """Return the deadlines of one attempt. If the caller's time limit is forwarded, only the target enforces it."""
    deadlines, target = candidate.deadlines, candidate.backend.target
    if target.options and _forwards_timeout(target):
        left += max(0.0, deadlines.total - call.deadline)
    return cap_to_time_left(deadlines, left)


def timeout_of_target(failure: Failure, call: Call, target: Target, elapsed_s: float) -> Failure:
    """Return a 429 as a timeout if a forwarded time limit has nearly passed, because Friendli reports its timeouts as 429."""
    if failure.kind != "rate_limit" or failure.retry_after is not None or not _forwards_timeout(target):
        return failure
    if elapsed_s < call.deadline * FORWARDED_TIMEOUT_SHARE:
        return failure
    return msgspec.structs.replace(failure, kind="timeout", status=504, code=None, type=None)


def _forwards_timeout(target: Target) -> bool:
    return bool(target.options.get("forward_timeout"))

"""The request for one target: the caller's body, fitted into the context window and adapted to the provider's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.attempts.continuation import continued_body, set_prefill
from gateway.attempts.fit import Fit
from gateway.call import Call
from gateway.emulate.adapt import AdaptedBody, adapt_body
from gateway.errors import unreadable
from gateway.http.caller import Caller
from gateway.limits.bounds import set_output_cap
from gateway.response.headers import linked_id
from gateway.targets.candidate import Candidate
from gateway.upstream.transport import Deadlines
from providers.base import Adjustment, Body, Target

if TYPE_CHECKING:
    from gateway.tokens.truncation import ContextReport


class AdaptedRequest(NamedTuple):
    """The request for one target."""

    adapted: AdaptedBody
    adjustments: list[Adjustment]
    context: ContextReport | None
    """The report on how the conversation was fitted into the context window."""


async def adapt(
    fit: Fit, call: Call, candidate: Candidate, target: Target, left: float, cap: int | None = None
) -> AdaptedRequest:
    """Fit the body into the context window and apply the provider's rules.

    Raise Refusal if the target cannot honour it. `cap` is the output that a strict limit reserved for a call that sets
    no cap.
    """
    assert call.body is not None
    settings = candidate.settings
    strict = call.strict or bool(settings.strict)
    transcript = call.transcript if call.transcript is not None and call.transcript.handovers else None
    body = call.body.copy() if transcript is None else continued_body(transcript, call, call.body)
    context, adjustments = None, []
    try:
        if call.dialect.has_messages and (call.wants_fit or settings.context is not None):
            deadlines = cap_to_time_left(candidate.deadlines, left)
            fitted = await fit.apply(
                body, candidate.backend, settings.context, deadlines, strict=strict, report=call.wants_receipt
            )
            context, adjustments = fitted.report, fitted.adjustments
        if cap is not None:
            adjustments = [*adjustments, set_output_cap(body, cap)]
        adapted = adapt_body(
            body, target, call.operation, strict=strict, stream=call.stream, may_repair=bool(settings.json_repair)
        )
        if transcript is not None:
            set_prefill(transcript, adapted.body, target)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    return AdaptedRequest(adapted, [*adjustments, *adapted.adjustments], context)


def forward_header(caller: Caller, name: str, body: Body) -> None:
    """Forward a header that the provider accepts from callers, unless a parameter of the body has set it."""
    for key, value in caller.headers:
        if key == name.encode() and linked_id(value) is not None:
            body.headers.setdefault(name, value.decode())


def cap_to_time_left(deadlines: Deadlines, left: float) -> Deadlines:
    """Return deadlines whose total ends with the call."""
    if left > deadlines.total - 0.01:
        return deadlines
    return Deadlines(deadlines.connect, deadlines.tls, deadlines.first_byte, deadlines.idle, left)

"""The request for one target: the caller's body, fitted into the context window and adapted to the provider's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.attempts.continuation import continued_body, set_prefill
from gateway.attempts.fit import Fit
from gateway.call import Call
from gateway.emulate import json_mode, logits
from gateway.errors import unreadable
from gateway.http.caller import Caller
from gateway.limits.bounds import set_output_cap
from gateway.response.headers import linked_id
from gateway.targets.candidate import Candidate
from gateway.upstream.transport import Deadlines
from providers.base import Adjustment, Body, Options, Target

if TYPE_CHECKING:
    from gateway.tokens.truncation import ContextReport


class AdaptedRequest(NamedTuple):
    """The request body for one target, and what its answer is checked for."""

    body: Body
    options: Options
    adjustments: list[Adjustment]
    context: ContextReport | None = None
    """How the conversation was fitted into the context window."""
    asked: logits.LogitsRequest | None = None
    """The probabilities to read from a chat completion, for a provider without an operation for them."""
    watch: json_mode.JsonValidator | None = None
    """Validates the answer in JSON mode."""


async def adapt(fit: Fit, call: Call, candidate: Candidate, target: Target, left: float, cap: int | None = None) -> AdaptedRequest:
    """Fit the caller's body into the context window and apply the provider's rules; Refusal if the target cannot honour it.

    `cap` is the output that a strict limit reserved for a call without a cap of its own.
    """
    assert call.body is not None
    strict = call.strict or bool(candidate.settings.strict)
    if call.operation == "logits" and not logits.is_native(target.kind):
        options, asked = Options(strict), logits.read_request(call.body)
        body = logits.to_chat(call.body, asked)
        return AdaptedRequest(body, options, logits.adapt(body, asked, target, options), asked=asked)
    options = Options(strict, call.stream, call.operation)
    transcript = call.transcript if call.transcript is not None and call.transcript.handovers else None
    body = call.body.copy() if transcript is None else continued_body(transcript, call, call.body)
    context, fitted = None, []
    try:
        if call.operation == "chat" and (call.wants_fit or candidate.settings.context is not None):
            deadlines = cap_to_time_left(candidate.deadlines, left)
            fit_result = await fit.apply(body, candidate.backend, candidate.settings.context, deadlines, strict=strict, report=call.wants_receipt)
            context, fitted = fit_result.report, fit_result.adjustments
        if cap is not None:
            fitted = [*fitted, set_output_cap(body, cap)]
        body, adjustments, watch = json_mode.adapt(body, target, options, repair=bool(candidate.settings.json_repair))
        if transcript is not None:
            set_prefill(transcript, body, target)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    return AdaptedRequest(body, options, [*fitted, *adjustments], context, watch=watch)


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

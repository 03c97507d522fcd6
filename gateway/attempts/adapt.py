"""What is sent to one place: the caller's body made to fit the place's context window and the provider's rules, within the time left."""

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
    asked: logits.Asked | None = None
    """The probabilities to read from a chat completion, for a provider without an operation for them."""
    watch: json_mode.Watch | None = None
    """Validates the answer in JSON mode."""


async def adapt(fit: Fit, call: Call, choice: Candidate, target: Target, left: float, cap: int | None = None) -> AdaptedRequest:
    """Fit the caller's body into the context window and apply the provider's rules; Refusal if the target cannot honour it.

    `cap` is the output that a strict limit reserved for a call without a cap of its own.
    """
    assert call.body is not None
    strict = call.strict or bool(choice.settings.strict)
    if call.operation == "logits" and not logits.is_native(target.kind):
        options, asked = Options(strict), logits.read(call.body)
        body = logits.as_chat(call.body, asked)
        return AdaptedRequest(body, options, logits.adapt(body, asked, target, options), asked=asked)
    options = Options(strict, call.stream, call.operation)
    transcript = call.transcript if call.transcript is not None and call.transcript.handovers else None
    body = call.body.copy() if transcript is None else continued_body(transcript, call, call.body)
    context, fitted = None, []
    try:
        if call.operation == "chat" and (call.fits or choice.settings.context is not None):
            deadlines = within(choice.deadlines, left)
            fit_result = await fit.apply(body, choice.backend, choice.settings.context, deadlines, strict=strict, report=call.receipt)
            context, fitted = fit_result.report, fit_result.adjustments
        if cap is not None:
            fitted = [*fitted, set_output_cap(body, cap)]
        body, adjustments, watch = json_mode.adapt(body, target, options, repair=bool(choice.settings.json_repair))
        if transcript is not None:
            set_prefill(transcript, body, target)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    return AdaptedRequest(body, options, [*fitted, *adjustments], context, watch=watch)


def hand_on(caller: Caller, name: str, body: Body) -> None:
    """One of the few headers that a provider takes from callers, unless a parameter of the body became it already."""
    for key, value in caller.headers:
        if key == name.encode() and linked_id(value) is not None:
            body.headers.setdefault(name, value.decode())


def within(deadlines: Deadlines, left: float) -> Deadlines:
    """The deadlines of a later attempt end with the call."""
    if left > deadlines.total - 0.01:
        return deadlines
    return Deadlines(deadlines.connect, deadlines.tls, deadlines.first_byte, deadlines.idle, left)

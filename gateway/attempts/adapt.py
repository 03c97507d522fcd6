"""What is sent to one place: the caller's body made to fit the place's context window and the provider's rules, within the time left."""

from __future__ import annotations

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

Plan = tuple[logits.Asked | None, json_mode.Watch | None, Options, Body]
"""Probabilities to be read from a chat, JSON to be watched for, and the adapted body with its options."""


async def adapt(fit: Fit, call: Call, choice: Candidate, target: Target, left: float, cap: int | None = None) -> Plan:
    """What to send: the caller's body made to fit the place's window and the provider's rules, both noted on the call.

    `cap`: what a strict limit reserved of output for a call that names no cap itself.
    """
    assert call.body is not None
    strict = call.strict or bool(choice.settings.strict)
    if call.operation == "logits" and not logits.is_native(target.kind):
        options, asked = Options(strict), logits.read(call.body)
        body = logits.as_chat(call.body, asked)
        call.adjustments = logits.adapt(body, asked, target, options)
        return asked, None, options, body
    options = Options(strict, call.stream, call.operation)
    transcript = call.transcript if call.transcript is not None and call.transcript.handovers else None
    body = call.body.copy() if transcript is None else continued_body(transcript, call.body)
    try:
        fitted = await _fit(fit, call, choice, body, strict, left) if call.fits or choice.settings.context is not None else []
        if cap is not None:
            fitted = [*fitted, set_output_cap(body, cap)]
        body, adjustments, watch = json_mode.adapt(body, target, options, repair=bool(choice.settings.json_repair))
        if transcript is not None:
            set_prefill(transcript, body, target)
        call.adjustments = [*fitted, *adjustments]
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    return None, watch, options, body


async def _fit(fit: Fit, call: Call, choice: Candidate, body: Body, strict: bool, left: float) -> list[Adjustment]:
    """Make the conversation fit the place's context window, as caller or configuration ask."""
    if call.operation != "chat":
        return []
    deadlines = within(choice.deadlines, left)
    found = await fit.apply(body, choice.backend, choice.settings.context, deadlines, strict=strict, report=call.receipt)
    call.context = found.report
    return found.adjustments


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

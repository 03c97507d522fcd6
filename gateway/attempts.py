"""From one place to the next until one has answered: what is sent where, and what comes after a failure.

    Attempts.run    over the places in order     retry, next or stop, until the caller has an answer or none is left
    _attempt        one send to one place        its limits, its engine, the exchange; None, or the Failure
    _adapt          what is sent                 the body made to fit the place's window and the provider's rules

Another place is only asked while the caller was sent nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway import accounting, answer, json_mode, logits
from gateway.call import Attempt, Call
from gateway.caller import Caller
from gateway.delivery import Exchange, carry_out
from gateway.errors import RETRY, STOP, GatewayError, from_failure, from_refusal, unreadable
from gateway.fit import Fit
from gateway.limiting import Limits
from gateway.limits.types import Reservation
from gateway.metrics import Metrics
from gateway.routing import Choice
from gateway.upstream.transport import Deadlines, UpstreamError
from providers.base import Adjustment, Body, Failure, Options, Refusal, StreamFailure, Target

if TYPE_CHECKING:
    from providers.local.gate import Lease

ENGINE_PATIENCE = 10.0
"""Seconds that a call waits for an engine which is loading its model."""
BROKEN = frozenset({"connect", "closed_pre", "truncated", "reset"})
"""What a crash of the embedded engine looks like from here."""

Plan = tuple[logits.Asked | None, json_mode.Watch | None, Options, Body]
"""Probabilities to be read from a chat, JSON to be watched for, and the adapted body with its options."""


class Attempts:
    """What the attempts of every call share."""

    def __init__(self, metrics: Metrics, limits: Limits | None) -> None:
        """`limits` None: none are configured, and nothing is counted."""
        self.fit = Fit()
        self._metrics = metrics
        self._limits = limits

    async def run(self, call: Call, caller: Caller, choices: Sequence[Choice]) -> None:
        """Send to one place after another until one answers; the error of the last one otherwise."""
        refusal: Refusal | None = None
        error: GatewayError | None = None
        total = min(choices[0].deadlines.total, call.deadline)
        for choice in choices:
            left = total - (time.monotonic() - call.started)
            if left <= 0:
                break
            for attempt in range(choice.retries + 1):
                try:
                    failure = await self._attempt(call, caller, choice, left)
                except Refusal as refused:
                    refusal = refusal or refused
                    break
                if failure is None:
                    return
                error = self._failed(call, caller, choice, failure)
                if failure.kind in STOP or caller.opened:
                    raise error
                left = total - (time.monotonic() - call.started)
                if failure.kind not in RETRY or attempt == choice.retries or left <= 0:
                    break
            if choice is not choices[-1]:
                self._metrics.count("lockgate_failovers", (self._metrics.model_label(call.model),))
        if error is not None:
            raise error
        if refusal is not None:
            raise from_refusal(refusal)
        raise from_failure(Failure("timeout", f"no answer within {total:g} s"), call.model)

    def _failed(self, call: Call, caller: Caller, choice: Choice, failure: Failure) -> GatewayError:
        call.context = None
        target = choice.place.target
        call.attempts[-1].outcome = str(failure.status) if failure.status >= 400 else failure.kind
        label = self._metrics.target_label(target)
        self._metrics.count("lockgate_attempts", (label, call.attempts[-1].outcome))
        self._metrics.count("lockgate_upstream_errors", (label, failure.kind))
        if call.stream and caller.opened:
            call.stream_end = failure.kind
        return from_failure(failure, target.name)

    async def _fit(self, call: Call, choice: Choice, body: Body, strict: bool, left: float) -> list[Adjustment]:
        """Make the conversation fit the place's context window, as caller or configuration ask."""
        if call.operation != "chat":
            return []
        deadlines = _within(choice.deadlines, left)
        found = await self.fit.apply(body, choice.place, choice.context, deadlines, strict=strict, report=call.receipt)
        call.context = found.report
        return found.adjustments

    async def _attempt(self, call: Call, caller: Caller, choice: Choice, left: float) -> Failure | None:
        """One send to one place. None when the caller has the answer, else why not; Refusal when it cannot be asked this."""
        place = choice.place
        target = place.next_target()
        asked, watch, options, body = await self._adapt(call, choice, target, left)
        for name in getattr(target.kind, "caller_headers", ()):
            _hand_on(caller, name, body)
        call.target = target
        call.attempts.append(Attempt(target.name))
        exchange = Exchange(call, caller, place, target, options, _within(choice.deadlines, left), self._metrics, asked, watch)
        lease: Lease | None = None
        reserved: Reservation | None = None
        place.pace.in_flight += 1
        try:
            if self._limits is not None:
                found = await self._limits.admit_target(call, target)
                if isinstance(found, Failure):
                    return found
                reserved = found
            if place.engine is not None:
                admitted = await place.engine.admit(ENGINE_PATIENCE)
                if isinstance(admitted, Failure):
                    return admitted
                lease = admitted
            await carry_out(exchange, body)
        except UpstreamError as error:
            failure = _upstream_failure(error, call, caller)
            return place.engine.failure() if place.engine is not None and failure.kind in BROKEN else failure
        except StreamFailure as error:
            return error.failure
        finally:
            call.attempts[-1].ms = exchange.elapsed()
            place.pace.ended(call)
            if lease is not None:
                lease.release()
            if reserved is not None and self._limits is not None:
                accounting.settle(call)
                self._limits.settle(call, reserved, made=True)
        self._metrics.count("lockgate_attempts", (self._metrics.target_label(target), "ok"))
        return None

    async def _adapt(self, call: Call, choice: Choice, target: Target, left: float) -> Plan:
        """What to send: the caller's body made to fit the place's window and the provider's rules, both noted on the call."""
        assert call.body is not None
        strict = call.strict or choice.strict
        if call.operation == "logits" and not logits.is_native(target.kind):
            options, asked = Options(strict), logits.read(call.body)
            body = logits.as_chat(call.body, asked)
            call.adjustments = logits.adapt(body, asked, target, options)
            return asked, None, options, body
        options = Options(strict, call.stream, call.operation)
        body = call.body.copy()
        try:
            fitted = await self._fit(call, choice, body, strict, left) if call.fits or choice.context is not None else []
            body, adjustments, watch = json_mode.adapt(body, target, options, repair=choice.json_repair)
            call.adjustments = [*fitted, *adjustments]
        except (msgspec.DecodeError, RecursionError) as error:
            raise unreadable(error) from None
        return None, watch, options, body


def _hand_on(caller: Caller, name: str, body: Body) -> None:
    """One of the few headers that a provider takes from callers, unless a parameter of the body became it already."""
    for key, value in caller.headers:
        if key == name.encode() and answer.linked_id(value) is not None:
            body.headers.setdefault(name, value.decode())


def _within(deadlines: Deadlines, left: float) -> Deadlines:
    """The deadlines of a later attempt end with the call."""
    if left > deadlines.total - 0.01:
        return deadlines
    return Deadlines(deadlines.connect, deadlines.tls, deadlines.first_byte, deadlines.idle, left)


def _upstream_failure(error: UpstreamError, call: Call, caller: Caller) -> Failure:
    """What broke, in terms of what the caller has seen: before the first content a stream has only failed to start."""
    kind = error.kind
    if call.stream and call.upstream_at and not caller.opened:
        if kind == "stalled":
            kind = "ttft_timeout"
        elif kind in ("reset", "truncated"):
            kind = "closed_pre"
    return Failure(kind, error.message)

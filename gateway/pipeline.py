"""The life of one call, first byte to last. Read this first.

    accept        its head and body                                  400, 413, 415
    authenticate  headers -> VirtualKey                               401, 403
    normalize     right types, sane values, whole messages            400
    route         model -> places in order                            404
    limit         key, user, model: reserved together or not at all  429; a provider's limits: the next place
    fit           counted, lowered, evicted: only when asked          400, or the next place
    adapt, send   rules + encode -> request -> answer, or a Failure   the next place, while nothing was sent to the caller
    deliver       the answer back: bytes as they are, or as events
    account       usage, counters, one log line                       always, once, whatever happened

The coroutine that accepts a call is the one that accounts for it, in one `finally`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway import accounting, answer, json_mode, logits
from gateway.auth import Keys, may_use
from gateway.call import Attempt, Call
from gateway.caller import Caller, CallerDeadlines, Send
from gateway.calllog import CallLog
from gateway.delivery import Exchange
from gateway.dialects.json_body import CallerGone, Receive, check_headers, parse_body, read_body
from gateway.errors import RETRY, STOP, Forbidden, GatewayError, Unauthorized, Unavailable, from_failure, from_refusal, unreadable
from gateway.fit import BEHAVIOUR, LIMIT, Fit
from gateway.limiting import Limits
from gateway.limits.types import Reservation
from gateway.metrics import Metrics
from gateway.normalize import normalize, read_model
from gateway.routing import Choice, Router
from gateway.upstream.transport import Deadlines, UpstreamError
from gateway.watch import Watch
from providers.base import Adjustment, Body, Failure, Operation, Options, Refusal, StreamFailure, Target

if TYPE_CHECKING:
    from providers.local.gate import Lease

ENGINE_PATIENCE = 10.0
"""Seconds that a call waits for an engine which is loading its model."""
BROKEN = frozenset({"connect", "closed_pre", "truncated", "reset"})
"""What a crash of the embedded engine looks like from here."""
_TRUE = frozenset({b"true", b"1", b"?1", b"yes"})

Plan = tuple[logits.Asked | None, json_mode.Watch | None, Options, Body]
"""Probabilities to be read from a chat, JSON to be watched for, and the adapted body with its options."""


class Pipeline:
    """What every call of one configuration shares."""

    def __init__(
        self,
        *,
        keys: Keys,
        router: Router,
        metrics: Metrics,
        log: CallLog,
        watch: Watch,
        deadlines: CallerDeadlines,
        max_body: int,
        strict: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """`limits` None: none are configured, and nothing is counted."""
        self.keys = keys
        self.limits = limits
        self.router = router
        self.fit = Fit()
        self.metrics = metrics
        self._log = log
        self._watch = watch
        self.deadlines = deadlines
        self._max_body = max_body
        self._strict = strict

    async def serve(self, operation: Operation, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one call and account for it."""
        call = Call(operation, scope["path"])
        caller = Caller(scope, receive, send, self.deadlines)
        self._watch.add(caller)
        self.metrics.in_flight += 1
        try:
            await self._answer(call, caller)
        except GatewayError as error:
            await self._refuse(call, caller, error)
        except CallerGone:
            caller.gone = True
        except asyncio.CancelledError:
            if not caller.gone:
                call.stream_end = call.stream_end or "cancelled"
                await self._refuse(call, caller, Unavailable("The gateway is shutting down.", code="server_shutting_down"))
                raise
            _uncancel()
            await self._leave(call, caller)
        except Exception as error:  # the last line: no call ends without an answer and a record
            self._log.write(accounting.internal_error(call, error))
            self.metrics.count("lockgate_internal_errors")
            await self._refuse(call, caller, GatewayError("The gateway failed to handle this call. Its log has the request id."))
        finally:
            self._watch.discard(caller)
            caller.close()
            self._account(call, caller)

    def _account(self, call: Call, caller: Caller) -> None:
        ended = time.monotonic()
        self.metrics.in_flight -= 1
        if caller.gone and not caller.finished:
            call.abort_phase = "write_stall" if caller.stalled and caller.opened else _phase(call, caller)
        accounting.settle(call)
        if call.reservation is not None and self.limits is not None:
            self.limits.settle(call, call.reservation)
        self.metrics.record(call, ended)
        self._log.add(call, ended)

    async def _refuse(self, call: Call, caller: Caller, error: GatewayError) -> None:
        """An HTTP answer while nothing was sent yet, else the stream's last event."""
        call.error = error
        try:
            if caller.opened:
                await caller.finish(error.event())
            else:
                call.status = error.status
                call.first_byte_at = time.monotonic()
                body = error.body()
                await caller.answer(error.status, answer.error_headers(call, error, len(body)), body)
        except asyncio.CancelledError:
            if not caller.gone:
                raise
            _uncancel()

    async def _leave(self, call: Call, caller: Caller) -> None:
        """The call was cancelled because its caller left, or stopped sending its body."""
        if caller.stalled and caller.reading:
            caller.gone = False
            error = GatewayError(
                "The request body did not arrive in time.",
                status=408,
                code="request_timeout",
                type="invalid_request_error",
                headers=((b"connection", b"close"),),
            )
            await self._refuse(call, caller, error)

    async def _answer(self, call: Call, caller: Caller) -> None:
        await self._accept(call, caller)
        assert call.body is not None
        model = self.router.find(call.model)
        if not may_use(call.key, call.model):
            raise Forbidden(f"The key '{call.key.name if call.key else ''}' may not use the model '{model.name}'.", param="model")
        normalize(call.body)
        _read_asks(call, call.body)
        choices = self.router.targets(model)
        if self.limits is not None:
            await self.limits.admit(call, model.name, [choice.place.target for choice in choices])
        await self._try(call, caller, choices)

    async def _accept(self, call: Call, caller: Caller) -> None:
        """Read the request as far as it can be judged without knowing a provider."""
        headers = caller.headers
        try:
            call.key = self.keys.authenticate(headers)
        except (Unauthorized, Forbidden) as error:
            self.metrics.count("lockgate_auth_failures", (str(error.code),))
            raise
        check_headers(headers, self._max_body)
        source = await read_body(caller.receive, self._max_body)
        caller.reading = False
        call.body_bytes = len(source)
        body = call.body = parse_body(source)
        for name, value in headers:
            if name == b"x-request-id":
                call.client_id = answer.linked_id(value)
            elif name == b"x-gateway-strict":
                call.strict = value.lower() in _TRUE
            elif name == b"x-gateway-receipt":
                call.receipt = value.lower() == b"body"
        call.model = read_model(body)
        call.strict = call.strict or self._strict or (call.key is not None and call.key.strict)

    async def _try(self, call: Call, caller: Caller, choices: Sequence[Choice]) -> None:
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
                self.metrics.count("lockgate_failovers", (self.metrics.model_label(call.model),))
        if error is not None:
            raise error
        if refusal is not None:
            raise from_refusal(refusal)
        raise from_failure(Failure("timeout", f"no answer within {total:g} s"), call.model)

    def _failed(self, call: Call, caller: Caller, choice: Choice, failure: Failure) -> GatewayError:
        call.context = None
        target = choice.place.target
        call.attempts[-1].outcome = str(failure.status) if failure.status >= 400 else failure.kind
        label = self.metrics.target_label(target)
        self.metrics.count("lockgate_attempts", (label, call.attempts[-1].outcome))
        self.metrics.count("lockgate_upstream_errors", (label, failure.kind))
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
        exchange = Exchange(call, caller, place, target, options, _within(choice.deadlines, left), self.metrics, asked, watch)
        lease: Lease | None = None
        reserved: Reservation | None = None
        try:
            if self.limits is not None:
                found = await self.limits.admit_target(call, target)
                if isinstance(found, Failure):
                    return found
                reserved = found
            if place.engine is not None:
                admitted = await place.engine.admit(ENGINE_PATIENCE)
                if isinstance(admitted, Failure):
                    return admitted
                lease = admitted
            await exchange.carry_out(body)
        except UpstreamError as error:
            failure = _upstream_failure(error, call, caller)
            return place.engine.failure() if place.engine is not None and failure.kind in BROKEN else failure
        except StreamFailure as error:
            return error.failure
        finally:
            call.attempts[-1].ms = exchange.elapsed()
            if lease is not None:
                lease.release()
            if reserved is not None and self.limits is not None:
                accounting.settle(call)
                self.limits.settle(call, reserved, made=True)
        self.metrics.count("lockgate_attempts", (self.metrics.target_label(target), "ok"))
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


def _read_asks(call: Call, body: Body) -> None:
    """What a checked body asks of the gateway itself: streaming, usage in the stream, stops, a deadline, a prompt that fits."""
    call.stream = body.get("stream") is True
    call.fits = BEHAVIOUR in body or LIMIT in body
    if "stream_options" in body:
        call.usage_asked = (body.get("stream_options") or {}).get("include_usage") is True
    if body.get("stop"):
        stop = body.get("stop")
        call.stops = (stop,) if type(stop) is str else tuple(stop)
        call.keep_stop = body.get("include_stop_str_in_output") is True
    if body.get("timeout_microseconds"):
        call.deadline = body.get("timeout_microseconds") / 1e6


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


def _phase(call: Call, caller: Caller) -> str:
    if caller.opened:
        return "mid"
    return "pre" if call.sent_at else "queue"


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()

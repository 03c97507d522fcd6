"""One call in the fast lane, from the decision of the call's limits to the end of the answer.

    start           requests the decision of the limits, if there are any
    set_result      receives the decision, from the callback that read it
    _request        adapts the call, requests the decision of the target's limits if there are any, and sends the request
    _on_response    reads the part of the response that has arrived: sends the answer, or the next events of a stream
    _end            accounts for the call

A step that cannot continue hands the call over (gateway.fast.hand_over).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from gateway import accounting
from gateway.attempts.prepare import adapt_now, attempt_deadlines
from gateway.call import Attempt, Call
from gateway.fast.hand_over import LaneCall, Prepared, TargetDecision
from gateway.response import headers
from gateway.response.embeddings_response import merge_single
from gateway.response.json_response import finish_answer, send_json
from gateway.response.stream_response import UpstreamStream, finish, record_stream
from gateway.response.translated_caller import with_length, without_length
from gateway.response.upstream_answer import decode_json, is_event_stream
from gateway.response.upstream_exchange import MAX_ANSWER_BYTES, UpstreamExchange
from gateway.store.limit import Costs, Limit, Limiter, Reservation
from gateway.streams.relay import DONE
from gateway.targets.candidate import Candidate
from gateway.upstream.native_transport import SentRequest
from providers.base import Target, WireRequest

_NO_REQUEST = WireRequest("", [], b"")


class FastCall(LaneCall):
    """A call and its caller, while no task serves the call."""

    __slots__ = ()

    def start(self, limits: Sequence[Limit], costs: Costs | None) -> None:
        """Serve the call. `costs` are the amounts to reserve, or None if the call has no limits."""
        pipeline, call, cycle = self._pipeline, self._call, self._own_cycle
        cycle.take_body()
        cycle.set_fast_call(self)
        self.reading_body = False
        pipeline.begin(self)
        if call.stream:
            pipeline.metrics.begin_stream()
        if costs is None or pipeline.limits is None:
            self.step(self._request)
            return
        self._limits, self._costs = limits, costs
        self.step(partial(self._ask, pipeline.limits.limiter))

    def _ask(self, limiter: Limiter) -> None:
        """Request the decision of the limits."""
        assert self._costs is not None
        decision = limiter.request(self._limits, self._costs, self._call.id, self)
        if decision is not None:
            self._decided(decision)

    def set_result(self, result: Any, /) -> None:
        """Continue with the decision of the limits."""
        if self._decision is not None:
            self._decision.set_result(result)
        else:
            self.step(partial(self._decided, result))

    def _decided(self, decision: Any) -> None:
        assert self._pipeline.limits is not None
        assert self._costs is not None
        costs, self._costs = self._costs, None
        self._pipeline.limits.decided(self._call, self._limits, costs, decision)
        self._request()

    # --- the request -----------------------------------------------------------------------------------------------

    def _request(self) -> None:
        """Send the request, or hand the call over if it cannot be sent as it is."""
        pipeline, call, first = self._pipeline, self._call, self._route.candidates[0]
        pipeline.ledger.track(call)
        prepared = self._prepare(first)
        if prepared is None:
            self._continue(self._attempt)
            return
        limits, target = pipeline.limits, first.backend.target
        own = limits.of_target(target) if limits is not None else ()
        if limits is None or not own:
            self._transmit(prepared, None)
            return
        costs = limits.costs_now(call, own, (target,))
        if costs is None:
            self._continue(self._attempt)
            return
        self._target_decision = waiter = TargetDecision(self, prepared, own)
        decision = limits.limiter.request(own, costs, f"{call.id}.1", waiter)
        if decision is not None:
            waiter.set_result(decision)

    def take_target_decision(self, waiter: TargetDecision, decision: Any) -> None:
        """Continue with the decision of the limits of the target."""
        self.step(partial(self._target_decided, waiter, decision))

    def _target_decided(self, waiter: TargetDecision, decision: Any) -> None:
        """Send the request if the target's limits admit the call. Else hand the call over: the task requests the decision again."""
        self._target_decision = None
        if not isinstance(decision, Reservation) or not self._pipeline.failover.is_open(self._route.candidates[0]):
            self._give_back(decision)
            self._pipeline.failover.return_target(self._route.candidates[0], waiter.prepared.target)
            self._continue(self._attempt)
            return
        assert self._pipeline.limits is not None
        self._pipeline.limits.note_target(waiter.limits, decision)
        try:
            self._transmit(waiter.prepared, decision)
        except BaseException:
            if self._admission is None:
                self._give_back(decision)
            raise

    def _transmit(self, prepared: Prepared, reservation: Reservation | None) -> None:
        """Send the request."""
        pipeline, call, route = self._pipeline, self._call, self._route
        first, attempt, adapted = route.candidates[0], prepared.attempt, prepared.request.adapted
        deadlines = attempt_deadlines(first, call, prepared.left)
        call.attempts.append(attempt)
        self._body = adapted.body
        for body in (call.body, adapted.body):
            if body is not None:
                body.forget_values()  # decoded messages take several times the memory of their bytes
        native = prepared.request.native
        exchange = UpstreamExchange(call, attempt, self, first.backend, adapted, deadlines, pipeline.metrics, native=native)
        admission = self._admission = pipeline.failover.enter(call, attempt, first, reservation)
        exchange.sent_at = attempt.sent_at = admission.began
        self._exchange = exchange
        pipeline.metrics.count_target("lockgate_upstream_requests", prepared.target)
        self._sent = route.transport.begin(first.backend.origin, prepared.wire, deadlines, self._on_response)
        if self._sent is not None:
            attempt.is_written = True
        else:
            opening = route.transport.open(first.backend.origin, prepared.wire, deadlines, self._on_response)
            self._opening = asyncio.get_running_loop().create_task(opening)
            self._opening.add_done_callback(self._on_open)

    def _on_open(self, opening: asyncio.Task[SentRequest]) -> None:
        """Continue with the request that was sent on a new connection, or with the error if it could not be sent."""
        if self._opening is opening:
            self._opening = None
            self.step(partial(self._opened, opening))

    def _opened(self, opening: asyncio.Task[SentRequest]) -> None:
        assert self._exchange is not None
        sent = self._sent = opening.result()
        self._exchange.attempt.is_written = True
        if sent.response.status or sent.response.ended:
            self._read()

    def _prepare(self, first: Candidate) -> Prepared | None:
        """Return the request for the first candidate. Return None, and record nothing, if the request needs the pipeline."""
        call, failover = self._call, self._pipeline.failover
        left = min(first.deadlines.total, call.deadline) - (time.monotonic() - call.started)
        if left <= 0 or (target := failover.pick_target(first)) is None:
            return None
        try:
            prepared = _prepared(call, first, target, left)
        except Exception:
            prepared = None  # the pipeline gets the same error and reports it
        if prepared is None:
            failover.return_target(first, target)
        return prepared

    # --- the response ----------------------------------------------------------------------------------------------

    def _on_response(self) -> None:
        if self._sent is not None:  # else `_on_open` is called later
            self.step(self._read)

    def _read(self) -> None:
        """Process the part of the response that has arrived."""
        assert self._exchange is not None
        assert self._sent is not None
        exchange, response = self._exchange, self._sent.response
        if self._stream is not None:
            self._relay(self._stream)
            return
        if response.status != 200 or (self._call.stream and not is_event_stream(response)):
            self._continue_attempt()
            return
        if not exchange.attempt.head_at:
            exchange.attempt.head_at = time.monotonic()
        if self._call.stream:
            assert self._body is not None
            self._stream = UpstreamStream(exchange, response, self._body, usage_asked=self._call.wants_usage)
            self._relay(self._stream)
            return
        body = response.collect(MAX_ANSWER_BYTES)
        if body is not None:
            self._answer(exchange, body)
        elif response.ended or response.size > MAX_ANSWER_BYTES:
            self._continue_attempt()

    def _answer(self, exchange: UpstreamExchange, body: bytes) -> None:
        """Send a JSON answer."""
        assert self._sent is not None
        call, attempt, response = self._call, exchange.attempt, self._sent.response
        try:
            answer = finish_answer(exchange, decode_json(body, exchange.target, exchange.options, exchange.native))
        finally:
            response.close()
        body, attempt.usage, attempt.finish_reasons = answer
        if call.operation == "embeddings":
            body = merge_single(call, body)
        if not self._own_cycle.accepts_data:
            exchange.rest = partial(send_json, exchange, body, response)
            self._continue_attempt()
            return
        if exchange.native is not None:
            self.pass_natively()
        call.status, call.answered_by = 200, attempt
        body = call.dialect.response(body)
        call.first_byte_at = time.monotonic()
        head = headers.json_headers(call, attempt, response, len(body))
        if exchange.native is not None:
            head = self.own_headers(head)
        elif self.translator is not None:
            kept, body = self.own_headers(without_length(head)), self.own_answer(body)
            head = with_length(kept, body)
        self.head_sent = True
        self._own_cycle.try_respond(200, head, body)
        self._end(exchange)

    def _relay(self, stream: UpstreamStream) -> None:
        """Send the events that have arrived."""
        assert self._exchange is not None
        assert self._sent is not None
        exchange, response, cycle = self._exchange, self._sent.response, self._own_cycle
        try:
            while (out := stream.read_now(response)) is not None:
                if not self.head_sent:
                    self._begin_stream(exchange)
                if stream.ended:
                    break
                if self.translator is not None and not (out := self.own_events(out)):
                    continue
                self._active_at = time.monotonic()
                cycle.write_body(out, more=True)
                if not cycle.accepts_data:
                    self._continue_attempt()
                    return
        except BaseException:
            response.listener = None  # closing would call the listener
            stream.close()
            if self.head_sent:
                record_stream(exchange, stream)
            raise
        if out is None:
            return
        response.listener = None
        stream.close()
        record_stream(exchange, stream)
        if exchange.native is None:
            if self._call.wants_usage and accounting.needs_count(self._call):
                exchange.rest = partial(finish, exchange, out, stream.relay.opening)
                self._continue_attempt()
                return
            out += DONE
        self._call.stream_end = "ok"
        self._active_at = exchange.attempt.ended_at = time.monotonic()
        if self.translator is not None:
            out = self.own_end(out)
        cycle.write_body(out, more=False)
        self._end(exchange)

    def _begin_stream(self, exchange: UpstreamExchange) -> None:
        """Encode the head of the stream, which is sent with the first events."""
        assert self._sent is not None
        call, attempt = self._call, exchange.attempt
        if exchange.native is not None:
            self.pass_natively()
        call.status, call.answered_by = 200, attempt
        call.first_byte_at = time.monotonic()
        self._prepare_stream()
        head = headers.stream_headers(call, attempt, self._sent.response)
        self._own_cycle.begin_response(200, head if self.translator is None else self.own_headers(head))
        self._forget_request(attempt)

    def _forget_request(self, attempt: Attempt) -> None:
        """Free the memory of the request, which is not sent again, and of the headers. Keep an uncounted prompt for the bill."""
        assert self._sent is not None
        call = self._call
        self._body = None
        self._sent = msgspec.structs.replace(self._sent, request=_NO_REQUEST, head=b"")
        self._own_cycle.forget_headers()
        self._route.query.forget_headers()
        self.headers = ()
        call.limit_headers = ()
        if call.operation == "chat" and call.counts is not None and call.counts.is_counted(attempt.target):
            for body in (call.body, call.source):
                if body is not None:
                    body.drop_large()

    def _end(self, exchange: UpstreamExchange) -> None:
        """Account for the answered call."""
        assert self._admission is not None
        self.finished = True
        pipeline, call, admission = self._pipeline, self._call, self._admission
        self._release()
        pipeline.failover.answered_at_once(call, self._route.candidates[0], exchange, admission)
        if accounting.needs_count(call):
            self._continue(_nothing)
            return
        pipeline.watch.discard(self)
        self.close()
        self._own_cycle.send_heartbeat = None
        pipeline.account(call, self)


def _prepared(call: Call, first: Candidate, target: Target, left: float) -> Prepared | None:
    """Return the request for a target, or None if the request needs the pipeline. Raise Refusal if the target cannot honour the call."""
    request = adapt_now(call, first, target)
    adapted = request.adapted
    emulated = adapted.json_validator or adapted.tool_calls or (call.stops and request.native is None)
    if adapted.logits_request or (emulated and (call.stream or call.translator is not None or call.operation != "chat")):
        return None
    if target.kind.chained(adapted.body, adapted.options) is not None:
        return None
    wire = target.kind.encode(adapted.body, target, adapted.options)
    attempt = Attempt(target, first.backend.price, request.adjustments)
    return Prepared(target, request, wire, attempt, left) if attempt.upstream_calls == 1 else None


async def _nothing(call: Call, caller: Any) -> None:
    """Do nothing: the call has been answered."""

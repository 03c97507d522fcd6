"""One call in the fast lane, from the decision of the call's limits until its request has been sent.

    start           requests the decision of the limits, if there are any
    set_result      receives the decision, from the callback that read it
    _request        adapts the call, requests the decision of the target's limits if there are any, and sends the request

A step that cannot continue hands the call over (gateway.fast.hand_over).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from gateway.attempts.prepare import adapt_now, attempt_deadlines
from gateway.call import Attempt, Call
from gateway.fast.hand_over import LaneCall, Prepared, TargetDecision
from gateway.http.rounds import ADAPT
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.store.limit import Costs, Limit, Limiter, Reservation
from gateway.targets.candidate import Candidate
from gateway.upstream.native_transport import SentRequest
from providers.base import Target


class FastRequest(LaneCall):
    """A call while no task serves it. Its request is sent, and `on_response` is called when a part of the response has arrived."""

    __slots__ = ()

    def start(self, limits: Sequence[Limit], costs: Costs | None) -> None:
        """Serve the call. `costs` are the amounts to reserve, or None if the call has no limits."""
        pipeline, call, cycle = self._pipeline, self._call, self._own_cycle
        cycle.take_body()
        cycle.set_fast_call(self)
        self.reading_body = False
        pipeline.begin(self)
        cycle.rounds.calls = len(pipeline.watch)
        if call.stream:
            pipeline.metrics.begin_stream()
        if costs is None or pipeline.limits is None:
            self._send_request()
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
        self._send_request()

    def _send_request(self) -> None:
        """Send the request at the stage ADAPT. If a split has chosen the target, send it at once: the next choice depends on its load."""
        if self._route.query.is_drawn:
            self._request_now()
        else:
            self._own_cycle.rounds.add(ADAPT, self._request_now)

    def _request_now(self) -> None:
        if self._task is None:  # else the call has been handed over meanwhile
            self.step(self._request)

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
        decision = limits.limiter.request(own, costs, limits.new_target_id(call), waiter)
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
        self._sent = route.transport.begin(first.backend.origin, prepared.wire, deadlines, self.on_response)
        if self._sent is not None:
            attempt.is_written = True
        else:
            opening = route.transport.open(first.backend.origin, prepared.wire, deadlines, self.on_response)
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
            self.read()

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

    def on_response(self) -> None:
        """Note that a part of the response has arrived."""
        raise NotImplementedError

    def read(self) -> None:
        """Process the part of the response that has arrived."""
        raise NotImplementedError


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

"""Hands calls over from the fast lane to a task of the pipeline, which continues at the point that the call has reached.

A call that waits for the limits continues with a future for the decision. A call whose request was sent continues with the
attempt that sent it (`BegunAttempt`): the task gets the same response or error as if it had sent the request itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.attempts.prepare import AdaptedRequest
from gateway.attempts.send_attempt import BegunAttempt
from gateway.call import Attempt, Call
from gateway.http.cycle import RequestCycle
from gateway.response.stream_response import UpstreamStream, continue_stream
from gateway.response.translated_caller import TranslatedCaller
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.store.decision_waiter import wait_for_decision
from gateway.store.limit import NO_COSTS, Costs, Limit, Reservation
from gateway.targets.candidate import Candidate, Model
from gateway.upstream.native_transport import NativeTransport, SentRequest
from gateway.upstream.transport import Response
from providers.base import Body, Target, WireRequest

if TYPE_CHECKING:
    from gateway.attempts.admission import Admission
    from gateway.pipeline import Pipeline
    from gateway.routing.route_query import RouteQuery

Answer = Callable[[Call, Any], Awaitable[None]]


class Route(msgspec.Struct, frozen=True):
    """The candidates of a call. `transport` is that of the first candidate, which is native if the call enters the fast lane."""

    model: Model
    query: RouteQuery
    candidates: list[Candidate]
    transport: NativeTransport


class Prepared(msgspec.Struct, frozen=True):
    """A request that is ready to be sent."""

    target: Target
    request: AdaptedRequest
    wire: WireRequest
    attempt: Attempt
    left: float
    """Seconds until the call must end."""


class TargetDecision:
    """Receives the decision of the limits of a target."""

    __slots__ = ("_call", "future", "limits", "prepared")

    def __init__(self, call: LaneCall, prepared: Prepared, limits: Sequence[Limit]) -> None:
        self._call = call
        self.prepared = prepared
        self.limits = limits
        self.future: asyncio.Future[Any] | None = None
        """Receives the decision for a task."""

    def done(self) -> bool:
        """Return whether the decision is no longer wanted."""
        return self.future is not None and self.future.done()

    def set_result(self, result: Any, /) -> None:
        """Pass the decision to the task, or to the call if no task serves it."""
        if self.future is not None:
            self.future.set_result(result)
        else:
            self._call.take_target_decision(self, result)


class LaneCall(TranslatedCaller):
    """A call and its caller, while no task serves the call."""

    __slots__ = (
        "_admission", "_body", "_call", "_costs", "_decision", "_exchange", "_is_read_soon", "_limits", "_opening", "_own_cycle",
        "_pipeline", "_reads_on", "_route", "_sent", "_stream", "_target_decision",
    )  # fmt: skip

    def __init__(self, pipeline: Pipeline, cycle: RequestCycle, call: Call, route: Route) -> None:
        super().__init__(cycle.scope, cycle.receive, cycle.send, pipeline.deadlines, call.translator)
        self._pipeline = pipeline
        self._own_cycle = cycle
        self._call = call
        self._route = route
        self._limits: Sequence[Limit] = ()
        self._costs: Costs | None = None
        self._decision: asyncio.Future[Any] | None = None
        """Receives the decision of the limits for a task."""
        self._target_decision: TargetDecision | None = None
        self._exchange: UpstreamExchange | None = None
        self._admission: Admission | None = None
        self._body: Body | None = None
        self._opening: asyncio.Task[SentRequest] | None = None
        """Sends the request on a new connection."""
        self._sent: SentRequest | None = None
        self._stream: UpstreamStream | None = None
        self._is_read_soon = False
        """Whether the next round reads the part of the response that has arrived."""
        self._reads_on = False
        """Whether the connection is read although the caller's next request has arrived."""

    def start_in_task(self) -> None:
        """Let a task of the pipeline serve the call, with the candidates that have been chosen."""
        self._own_cycle.take_body()
        self.reading_body = False
        self._pipeline.begin(self)
        if self._call.stream:
            self._pipeline.metrics.begin_stream()
        self._continue(self._run_route)

    def done(self) -> bool:
        """Return whether the decision is no longer wanted: the task that waited for it was cancelled."""
        return self._decision is not None and self._decision.done()

    def take_target_decision(self, waiter: TargetDecision, decision: Any) -> None:
        """Continue with the decision of the limits of the target."""
        raise NotImplementedError

    def step(self, step: Callable[[], None]) -> None:
        """Take one step. An error is raised again in a task, where the pipeline handles it.

        If the call already has a task or an answer, the error is only reported.
        """
        try:
            step()
        except Exception as error:
            if self._task is not None or self.finished:
                self._pipeline.report_internal(self._call, error)
                return
            if self._sent is not None:
                self._sent.response.listener = None
                self._sent.response.close()
            raising = partial(_raise, error)
            if self._exchange is None:
                self._continue(raising)
            else:
                self._exchange.rest = raising
                self._continue_attempt()

    def on_disconnect(self) -> None:
        """Hand the call over to a task, which is then cancelled."""
        if not self.finished and self._task is None:
            self.continue_in_task()
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    def continue_in_task(self) -> None:
        """Hand the call over to a task, so that the call can be cancelled."""
        if self._costs is not None:
            self._decision = asyncio.get_running_loop().create_future()
            self._continue(self._await_decision)
        elif self._target_decision is not None:
            waiter, self._target_decision = self._target_decision, None
            waiter.future = asyncio.get_running_loop().create_future()
            self._continue(partial(self._await_target_decision, waiter.future))
        elif self._exchange is None:
            self._continue(self._attempt)
        else:
            self._continue_attempt()

    def _continue_attempt(self) -> None:
        """Hand over a call whose request has been sent."""
        exchange, admission, body = self._exchange, self._admission, self._body or self._call.body
        assert exchange is not None
        assert admission is not None
        assert body is not None
        if exchange.rest is None:
            if self._stream is not None:
                exchange.rest = partial(continue_stream, exchange, self._stream)
            elif self._sent is not None:
                exchange.begun = self._route.transport.wait(self._sent)
            elif self._opening is not None:
                exchange.begun = self._wait_for_opening(self._opening, exchange.attempt)
        self._continue(partial(self._attempt, begun=BegunAttempt(exchange, admission, body)))

    def _continue(self, answer: Answer) -> None:
        """Hand the call over to a task, which calls `answer` and accounts for the call."""
        self._release()
        cycle, pipeline = self._own_cycle, self._pipeline
        cycle.start_task(lambda scope, receive, send: pipeline.finish(self._call, self, answer))
        self._task = cycle.task

    def _release(self) -> None:
        """Drop the references to the connections and to the attempt, which refers to this object."""
        if self._sent is not None:
            self._sent.response.listener = None
        self._exchange = self._admission = self._body = self._opening = self._sent = self._stream = None
        self._own_cycle.set_fast_call(None)

    async def _wait_for_opening(self, opening: asyncio.Task[SentRequest], attempt: Attempt) -> Response:
        sent = await opening
        sent.response.listener = None
        attempt.is_written = True
        return await self._route.transport.wait(sent)

    async def _await_decision(self, call: Call, caller: Any) -> None:
        limits, costs = self._pipeline.limits, self._costs
        assert limits is not None
        assert costs is not None
        assert self._decision is not None
        limits.decided(call, self._limits, costs, await wait_for_decision(self._decision, self._give_back))
        await self._attempt(call, caller)

    async def _await_target_decision(self, future: asyncio.Future[Any], call: Call, caller: Any) -> None:
        self._give_back(await wait_for_decision(future, self._give_back))
        await self._attempt(call, caller)

    async def _run_route(self, call: Call, caller: Any) -> None:
        route = self._route
        await self._pipeline.run_route(call, caller, route.model, route.query, route.candidates)

    async def _attempt(self, call: Call, caller: Any, begun: BegunAttempt | None = None) -> None:
        router, route = self._pipeline.router, self._route
        self._pipeline.ledger.track(call)
        await self._pipeline.failover.run(
            call, caller, route.candidates, partial(router.alternates, route.model, route.query), begun
        )

    def sweep(self, now: float) -> None:
        """Send a heartbeat if one is due, and read on, as a task does when it starts listening for a disconnect."""
        if self._task is not None:
            super().sweep(now)
            return
        if not self._reads_on:
            self._reads_on = True
            self._own_cycle.resume_reading()
        if self.streaming and not self.finished and now - self._active_at > self._deadlines.heartbeat:
            self._start_heartbeat()

    def _give_back(self, decision: Any) -> None:
        if isinstance(decision, Reservation) and self._pipeline.limits is not None:
            self._pipeline.limits.in_flight.remove(decision)
            self._pipeline.limits.limiter.settle(decision, NO_COSTS)


async def _raise(error: Exception, *_: Any) -> None:
    raise error

"""One attempt: the call is adapted to a target, admitted, sent and answered, and the target's health records the outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gateway.attempts import billing
from gateway.attempts.admission import Admission, NotAdmittedError
from gateway.attempts.prepare import RequestAdapter, attempt_deadlines, timeout_of_target
from gateway.attempts.progress import Progress, upstream_failure
from gateway.call import Attempt
from gateway.metrics import Metrics
from gateway.response.deliver import UpstreamExchange, deliver
from gateway.response.redaction import redact
from gateway.targets.candidate import Candidate
from gateway.targets.cooldown import Reason
from gateway.targets.health import TargetHealth
from gateway.upstream.transport import UpstreamError
from providers.base import Body, Failure, StreamFailure, Target

if TYPE_CHECKING:
    from gateway.limits.enforce import Limits

ENGINE_CRASH_FAILURES = frozenset({"connect", "closed_pre", "truncated", "reset"})
"""Failures that a crash of the embedded engine causes."""
MIN_TIME_LEFT_S = 0.001
"""The minimum deadline of a request whose time passed in the queue."""


Replay = Callable[[], Awaitable[Failure | None]]
"""Answers the caller with a cached answer. Returns the failure, or None if the caller was answered."""


class BegunAttempt(NamedTuple):
    """An attempt that has begun. If gateway.fast began the attempt, the request has been sent."""

    exchange: UpstreamExchange
    admission: Admission
    body: Body


class AttemptSender:
    """Sends the attempts of all calls of one configuration."""

    def __init__(self, requests: RequestAdapter, metrics: Metrics, limits: Limits | None) -> None:
        """If `limits` is None, no target has limits."""
        self._requests = requests
        self._metrics = metrics
        self._limits = limits

    async def send(
        self, progress: Progress, candidate: Candidate, health: TargetHealth, begun: BegunAttempt | None = None
    ) -> Failure | None:
        """Send one request, or finish the attempt `begun` if it is given. Return None if the caller was answered, else the failure.

        An attempt that has begun but is not admitted is admitted first.

        Raise Refusal if the target cannot honour the call, and NotAdmittedError if the target does not admit it.
        """
        call, caller, backend, left = progress.call, progress.caller, candidate.backend, progress.time_left()
        broken = call.answered_by if begun is None else None  # the attempt whose stream this one continues
        as_probe = health.ejected or (health.cooldown.until > 0 and not health.is_available)
        exchange, admission, body = begun or await self._begin(progress, candidate, health, left)
        attempt, target, ended = exchange.attempt, exchange.target, "left"
        try:
            if not admission.began:
                ended = "turned_away"
                await self._enter(progress, candidate, exchange, admission, left, as_probe)
                ended, target = "left", exchange.target
            await deliver(exchange, body)
        except UpstreamError as error:
            failure = upstream_failure(error, call, attempt, caller)
            ended = failure.kind
            if failure.kind == "overloaded":  # the gateway's own limit on connections
                progress.note_not_sent(attempt)
                raise NotAdmittedError(failure, is_shed=True) from None
            if backend.engine is not None and failure.kind in ENGINE_CRASH_FAILURES:
                failure = backend.engine.failure()
        except StreamFailure as error:
            if error.usage is not None:
                attempt.reported.append(error.usage)
            failure = timeout_of_target(redact(error.failure, target), call, target, exchange.elapsed_ms() / 1000)
            ended = failure.kind
        except asyncio.CancelledError:
            if caller.has_gone:
                self._note_left(exchange, admission, broken)
            raise
        else:
            admission.succeeded(call.first_byte_at)
            self._metrics.count_target("lockgate_attempts", target, "ok")
            return None
        finally:
            attempt = progress.attempt = exchange.attempt  # a repair of its answer is a separate attempt
            if admission.began:
                attempt.ms = exchange.elapsed_ms()
            else:  # the request never reached the target
                attempt.sent_at = time.monotonic()
            backend.latency.in_flight -= 1
            first_byte_at = call.first_byte_at if call.answered_by is attempt else 0.0
            if broken is None:  # otherwise the times are those of the target that began the stream
                backend.latency.record_attempt(attempt.sent_at, first_byte_at, stream=call.stream)
            if call.answered_by is not attempt:
                billing.bill_unanswered(call, attempt, backend, ended)
            admission.leave(attempt)
        # a timeout does not count as a failure of the target if the attempt had at most half of the usual time
        if failure.kind != "timeout" or exchange.deadlines.total > candidate.deadlines.total / 2:
            self._count_cooldown(target, admission.failed(failure, first_byte_at))
        elif _is_silent(exchange, broken) and admission.is_too_silent():
            self._count_cooldown(target, admission.too_silent())
        return failure

    async def find_cached(self, progress: Progress, candidate: Candidate) -> Replay | None:
        """Return the function that answers the caller with a cached answer of a target in cooldown, or None if there is no answer."""
        return None

    def _note_left(self, exchange: UpstreamExchange, admission: Admission, broken: Attempt | None) -> None:
        """Record that the caller disconnected. If the target had been silent for too long, count a slow failure."""
        attempt, target = exchange.attempt, exchange.target
        if attempt.outcome != "ok":  # the attempt lost a hedge
            return
        attempt.outcome, label = "left", self._metrics.target_label(target)
        if not admission.began:
            return
        self._metrics.count("lockgate_attempts", (label, "left"))
        if not _is_silent(exchange, broken):
            return
        self._metrics.count("lockgate_unanswered_disconnects", (label,))
        if admission.is_too_silent():
            self._metrics.count("lockgate_upstream_errors", (label, "left"))
            self._count_cooldown(target, admission.too_silent())

    def _count_cooldown(self, target: Target, reason: Reason | None) -> None:
        if reason is not None:
            self._metrics.count("lockgate_cooldowns", (self._metrics.target_label(target), reason))

    async def _begin(self, progress: Progress, candidate: Candidate, health: TargetHealth, left: float) -> BegunAttempt:
        """Begin an attempt that is not yet admitted, and return it. Raise Refusal if the target cannot honour the call."""
        target = health.pick_credential(candidate.backend.targets)
        exchange, body = await self._start(progress, candidate, target, left)
        candidate.backend.latency.in_flight += 1
        return BegunAttempt(exchange, Admission(progress.call, exchange.attempt, health, self._limits), body)

    async def _enter(
        self, progress: Progress, candidate: Candidate, exchange: UpstreamExchange, admission: Admission, left: float, as_probe: bool
    ) -> None:
        """Wait until the target admits the attempt. Raise NotAdmittedError if it does not admit the attempt."""
        await admission.enter(candidate.backend.engine, left, as_probe=as_probe, only_if_available=not progress.is_last_resort)
        if len(targets := candidate.backend.targets) > 1:  # the credential may be in cooldown since the call began to wait
            exchange.target = exchange.attempt.target = admission.pick_credential(targets)
        self._admitted(progress, candidate, exchange, admission)

    async def _start(
        self, progress: Progress, candidate: Candidate, target: Target, left: float
    ) -> tuple[UpstreamExchange, Body]:
        """Adapt the call to the target, and return the exchange of a new attempt and its body.

        Raise Refusal if the target cannot honour the call.
        """
        call, backend = progress.call, candidate.backend
        request = await self._requests.prepare(call, candidate, target, left)
        adjustments = request.adjustments
        if call.hooks is not None:
            of_target = await call.hooks.target(target, request.adapted.body)
            adjustments = [*call.hooks.adjustments, *adjustments, *of_target]
        attempt = progress.attempt = Attempt(target, backend.price, adjustments, request.context)
        call.attempts.append(attempt)
        deadlines = attempt_deadlines(candidate, call, left)
        exchange = UpstreamExchange(
            call, attempt, progress.caller, backend, request.adapted, deadlines, self._metrics, native=request.native
        )
        if candidate.settings.fallback_on:
            exchange.goes_on_if_filtered = "content_filter" in candidate.settings.fallback_on
        attempt.sent_at = exchange.sent_at if call.answered_by is None else call.answered_by.sent_at
        return exchange, request.adapted.body

    def _admitted(
        self, progress: Progress, candidate: Candidate, exchange: UpstreamExchange, admission: Admission
    ) -> None:
        """Record that the attempt was admitted: its time at the target and its deadlines begin now."""
        call, attempt = progress.call, exchange.attempt
        progress.note_sent()
        exchange.on_begin = admission.on_begin
        if progress.is_paid:
            exchange.on_begin = partial(_begin_answer, progress, exchange.on_begin)
        exchange.sent_at = admission.began
        if call.answered_by is None:
            attempt.sent_at = admission.began
        else:
            attempt.continued_at = admission.began
        if attempt.queue_s:
            exchange.deadlines = attempt_deadlines(candidate, call, max(MIN_TIME_LEFT_S, progress.time_left()))
        if call.trace is not None:
            call.trace.begin(attempt)


def _begin_answer(progress: Progress, on_begin: Callable[[], None] | None) -> None:
    """Return the token of a fallback whose stream begins, and call `on_begin`."""
    progress.return_token()
    if on_begin is not None:
        on_begin()


def _is_silent(exchange: UpstreamExchange, broken: Attempt | None) -> bool:
    """Return whether a target has sent nothing of its answer or, if the answer is a stream, nothing with content.

    Return False for an attempt that continues a broken stream.
    """
    attempt, call = exchange.attempt, exchange.call
    if broken is not None or call.answered_by is attempt or attempt.reported:
        return False
    return call.stream or not attempt.head_at

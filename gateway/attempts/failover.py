"""From one place to the next until one has answered: what is sent where, and what comes after a failure.

    Attempts.run    over the places in order     those that cool last; until the caller has an answer or none is left
    _ask            one place                    retry, next or stop, by gateway.errors' table; within `attempts`, budget and deadline
    _attempt        one send to one place        admitted, the exchange; None, or the Failure, which the place's health hears of
    adapt           what is sent                 the body made to fit the place's window and the provider's rules (gateway.adapt)

Another place is only asked while the caller was sent nothing; after that only to go on with a broken stream (gateway.continuation).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from itertools import count

from gateway import usage as accounting
from gateway.attempts import billing, continuation
from gateway.attempts.adapt import adapt, hand_on, within
from gateway.attempts.admission import Admission, TurnedAway
from gateway.attempts.fit import Fit
from gateway.attempts.hedge import Hedges
from gateway.attempts.progress import Journey, last_word, resting
from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Attempt, Call
from gateway.config.route import DEFAULT_MAX_ATTEMPTS
from gateway.errors import FAILURES
from gateway.http.caller import Caller
from gateway.limits.enforce import Limits
from gateway.metrics import Metrics
from gateway.response.deliver import Exchange, carry_out
from gateway.response.redaction import redact
from gateway.targets.candidate import Candidate
from gateway.targets.health import TargetHealth
from gateway.targets.latency import Latency
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import UpstreamError
from providers.base import Failure, Refusal, StreamFailure

BROKEN = frozenset({"connect", "closed_pre", "truncated", "reset"})
"""What a crash of the embedded engine looks like from here."""
CREDENTIALS = frozenset({"rate_limit", "quota", "auth"})
"""What is said to one credential and may not hold for another."""
BACKOFF = (0.1, 1.0)
"""Seconds: a retry waits a random part of the first, doubled each time, of the second at most (full jitter)."""
SOON = 1.5
"""Seconds that a call waits for an upstream that said when it is back, instead of failing."""
SPREAD = 0.05
"""Seconds over which calls that waited for the same target arrive there."""


class Attempts:
    """What the attempts of every call share."""

    def __init__(
        self,
        metrics: Metrics,
        limits: Limits | None,
        health: TargetRegistry,
        budget: RetryBudget,
        hedges: Hedges,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`limits` None: none are configured, and nothing is counted. `draw` gives a number from 0 to 1, for jitter."""
        self.fit = Fit()
        self._metrics = metrics
        self._limits = limits
        self._target_limits = limits if limits is not None and limits.has_target_limits else None
        self._health = health
        self._budget = budget
        self._hedges = hedges
        self._draw = draw

    async def run(self, call: Call, caller: Caller, choices: Sequence[Candidate], alternates: Callable[[], list[Candidate]]) -> None:
        """Send to one place after another until one answers; the error of the last one otherwise.

        `alternates` gives every place of the model: the others of a split stand in when the one that was drawn fails.
        """
        journey = Journey(call, caller, min(choices[0].deadlines.total, call.deadline), alone=len(choices) == 1)
        journey.places = lambda: [*choices, *_others(choices, alternates)]
        self._budget.earn()
        call.transcript = continuation.transcript_for(call, choices)
        cooling: list[Candidate] = []
        if await self._ask_live(journey, choices, cooling):
            return
        others = _others(choices, alternates) if journey.failure is not None else []
        if await self._ask_live(journey, others, cooling):
            return
        if cooling and await self._ask_cooling(journey, cooling):
            return
        healths = [self._health.health_of(choice.backend.target) for choice in (*choices, *others)]
        raise last_word(journey, healths, down=len(cooling) == len(healths))

    async def once(self, call: Call, caller: Caller, choice: Candidate, total: float) -> Failure | None:
        """One send to one place and nothing after it, within `total` seconds; Refusal or TurnedAway when it is not made."""
        health = self._health.health_of(choice.backend.target)
        if not health.is_available:
            raise TurnedAway(resting(health))
        return await self._attempt(Journey(call, caller, total, alone=True), choice, health)

    async def _ask_live(self, journey: Journey, choices: Sequence[Candidate], cooling: list[Candidate]) -> bool:
        """One place after another; those that cool are left for later. Whether the caller has the answer."""
        for choice in choices:
            if journey.asked and choice.backend.target.name in journey.asked:
                continue
            health = self._health.health_of(choice.backend.target)
            if not health.is_available:
                cooling.append(choice)
            elif await self._ask(journey, choice, health):
                return True
        return False

    async def _ask(self, journey: Journey, choice: Candidate, health: TargetHealth) -> bool:
        """Send to one place, again while that makes sense. Whether the caller has the answer; GatewayError to end it all."""
        for again in count():
            if not again and not self._may_send(journey, choice):
                raise journey.error()
            if again:
                self._metrics.count("lockgate_retries", (self._metrics.target_label(choice.backend.target),))
            elif journey.moved:
                self._metrics.count("lockgate_fallbacks", (self._metrics.model_label(journey.call.model),))
            journey.moved = True
            try:
                if choice.settings.hedge is None or journey.sent:
                    failure = await self._attempt(journey, choice, health)
                else:
                    failure, choice = await self._hedged(journey, choice, health)
            except Refusal as refused:
                journey.refusal = journey.refusal or refused
                return False
            except TurnedAway as away:
                if away.shed:
                    self._metrics.count("lockgate_shed", (self._metrics.target_label(choice.backend.target),))
                if away.limit:  # a refusal of our own: neither an attempt nor an error of the upstream
                    assert journey.attempt is not None
                    journey.attempt.outcome = "limit"
                    journey.fail(away.failure, choice.backend.target.name)
                else:
                    self._note(journey, choice, away.failure)
                return False
            if failure is None:
                if journey.paid and not again:
                    self._budget.give_back()
                return True
            self._note(journey, choice, failure)
            if journey.caller.head_sent:
                return await self._go_on(journey, choice, failure)
            if FAILURES[failure.kind].then == "stop":
                raise journey.error()
            if not await self._pause(journey, choice, failure, again):
                return False
        return False

    async def _go_on(self, journey: Journey, broken: Candidate, failure: Failure) -> bool:
        """A stream broke after its first content: another place says the rest, where that is asked for and possible."""
        call, transcript = journey.call, journey.call.transcript
        if transcript is None or not continuation.can_continue(transcript, failure):
            raise journey.error()
        accounting.settle(call)
        broken_attempt = call.answered_by
        label = self._metrics.model_label(call.model)
        for choice in continuation.followers(transcript, journey.places(), broken):
            health = self._health.health_of(choice.backend.target)
            if not health.is_available or not self._may_send(journey, choice):
                continue
            begun = transcript.hand_over(choice.backend.target.name)
            try:
                found = await self._attempt(journey, choice, health)
            except (Refusal, TurnedAway):
                transcript.handovers.pop()
                continue
            self._metrics.count("lockgate_continuations", (label, "ok" if found is None else found.kind))
            if found is None:
                self._budget.give_back()
                return True
            self._note(journey, choice, found)
            if transcript.size > begun:
                return await self._go_on(journey, choice, found)
            transcript.handovers.pop()
        call.answered_by = broken_attempt
        journey.fail(failure, broken.backend.target.name)
        raise journey.error()

    async def _hedged(self, journey: Journey, choice: Candidate, health: TargetHealth) -> tuple[Failure | None, Candidate]:
        """One attempt, and a second at the next live place when it takes long; and which of them spoke last."""
        places = journey.places()
        later = places[places.index(choice) + 1 :] if choice in places else ()
        others = (one for one in later if one.backend is not choice.backend)
        rival = next((one for one in others if self._health.health_of(one.backend.target).is_available), None)
        if rival is not None:
            return await self._hedges.send(journey, choice, rival, self._attempt_at, self._note)
        return await self._attempt(journey, choice, health), choice

    async def _attempt_at(self, journey: Journey, choice: Candidate) -> Failure | None:
        """One send to one place."""
        return await self._attempt(journey, choice, self._health.health_of(choice.backend.target))

    def _may_send(self, journey: Journey, choice: Candidate) -> bool:
        """Whether there is time, and for a send after a failure: whether the call may have another, and the budget pays for it."""
        if journey.left() <= 0:
            return False
        if not journey.sent:
            return True
        if journey.sent >= (choice.settings.attempts or DEFAULT_MAX_ATTEMPTS):
            return False
        if self._budget.take():
            journey.paid = True
            return True
        self._metrics.count("lockgate_retry_budget_exhausted")
        return False

    async def _pause(self, journey: Journey, choice: Candidate, failure: Failure, again: int) -> bool:
        """Wait before the same target is asked again, as long as it said or a little; False when something else is better.

        What pays for the send is taken before the wait: a call that may not be sent again ends here and now. GatewayError then.
        """
        health = self._health.health_of(choice.backend.target)
        if len(choice.backend.targets) > 1 and FAILURES[failure.kind].blame in CREDENTIALS and health.is_available:
            if not self._may_send(journey, choice):
                raise journey.error()
            return True  # with another of its credentials
        if again >= (choice.settings.retries or 0) or health.ejected:
            return False
        wait = failure.retry_after or 0.0
        if failure.kind == "rate_limit":  # a retry at once would be refused too; elsewhere the call may go at once
            wait = wait or SOON
            if not journey.alone:
                return False
        elif FAILURES[failure.kind].then != "retry":
            return False
        wait += self._draw() * min(BACKOFF[1], BACKOFF[0] * 2**again)
        if wait > SOON + BACKOFF[0] or wait >= journey.left():
            return False
        if not self._may_send(journey, choice):
            raise journey.error()
        await asyncio.sleep(wait)
        if health.ejected:  # others found out meanwhile that it is not worth it
            self._budget.give_back()
            return False
        return True

    async def _ask_cooling(self, journey: Journey, cooling: list[Candidate]) -> bool:
        """No live target is left: the one that is soonest back, after a wait if it said so and that is soon, else before its time."""
        patience = min(SOON, journey.left())
        while True:
            choice = min(cooling, key=lambda one: self._health.health_of(one.backend.target).seconds_left)
            health = self._health.health_of(choice.backend.target)
            wait = health.seconds_left
            if wait <= 0 or wait > patience or health.cooldown.reason == "failures":
                break
            patience -= wait
            await asyncio.sleep(wait + self._draw() * SPREAD)
        if health.must_wait:
            journey.fail(resting(health), choice.backend.target.name)
            return False
        return await self._ask(journey, choice, health)

    def _note(self, journey: Journey, choice: Candidate, failure: Failure) -> None:
        """A failed attempt, on the call and in the counters."""
        call, attempt, target = journey.call, journey.attempt, choice.backend.target
        assert attempt is not None
        attempt.context = None
        attempt.outcome = str(failure.status) if failure.status >= 400 else failure.kind
        label = self._metrics.target_label(target)
        self._metrics.count("lockgate_attempts", (label, attempt.outcome))
        self._metrics.count("lockgate_upstream_errors", (label, failure.kind))
        if failure.redacted:
            self._metrics.count("lockgate_secrets_redacted", (), failure.redacted)
        if call.stream and journey.caller.head_sent:
            call.stream_end = failure.kind
        journey.fail(failure, target.name)

    async def _attempt(self, journey: Journey, choice: Candidate, health: TargetHealth) -> Failure | None:
        """One send to one place. None when the caller has the answer, else why not; Refusal when it cannot be asked this."""
        call, caller, place, left = journey.call, journey.caller, choice.backend, journey.left()
        target = health.pick_credential(place.targets)
        limits = self._target_limits
        cap = None
        if self._limits is not None and (call.strict_limits or limits is not None):
            cap = self._limits.reserved_output_cap(call, target)
        request = await adapt(self.fit, call, choice, target, left, cap)
        for name in target.kind.caller_headers:
            hand_on(caller, name, request.body)
        attempt = journey.attempt = Attempt(target, place.price, request.adjustments, request.context)
        call.attempts.append(attempt)
        if call.trace is not None:
            call.trace.begin(attempt)
        broken = call.answered_by  # the attempt that this one continues
        deadlines = within(choice.deadlines, left)
        exchange = Exchange(call, attempt, caller, place, request.options, deadlines, self._metrics, request.asked, request.watch)
        attempt.sent_at = exchange.sent_at if broken is None else broken.sent_at
        admission = Admission(call, target, health, limits)
        place.latency.in_flight += 1
        ended = "left"
        try:
            try:
                await admission.enter(place.engine, left)
            except TurnedAway:
                ended = "turned_away"
                if journey.sent:
                    self._budget.give_back()
                raise
            journey.sent += 1
            exchange.on_begin = admission.on_begin
            await carry_out(exchange, request.body)
        except UpstreamError as error:
            failure = _upstream_failure(error, call, attempt, caller)
            ended = failure.kind
            if failure.kind == "overloaded":  # our own cap on connections
                raise TurnedAway(failure, shed=True) from None
            if place.engine is not None and failure.kind in BROKEN:
                failure = place.engine.failure()
        except StreamFailure as error:
            failure = redact(error.failure, target)
            ended = failure.kind
        else:
            admission.succeeded(call.first_byte_at)
            self._metrics.count("lockgate_attempts", (self._metrics.target_label(target), "ok"))
            return None
        finally:
            attempt = journey.attempt = exchange.attempt  # a repair of its answer is an attempt of its own
            attempt.ms = exchange.elapsed()
            place.latency.in_flight -= 1
            first_byte_at = call.first_byte_at if call.answered_by is attempt else 0.0
            if broken is None:  # else the times are those of the target that began the stream
                _record_latency(place.latency, attempt.sent_at, first_byte_at, stream=call.stream)
            if call.answered_by is not attempt:
                billing.bill_unanswered(call, attempt, place, ended)
            admission.leave(attempt)
        if failure.kind != "timeout" or exchange.deadlines.total > choice.deadlines.total / 2:  # a caller's hurry is no fault of the target
            reason = admission.failed(failure, first_byte_at)
            if reason is not None:
                self._metrics.count("lockgate_cooldowns", (self._metrics.target_label(target), reason))
        return failure


def _others(choices: Sequence[Candidate], alternates: Callable[[], list[Candidate]]) -> list[Candidate]:
    """The places of a model that a call was not drawn for."""
    known = {choice.backend.target.name for choice in choices}
    return [one for one in alternates() if one.backend.target.name not in known]


def _record_latency(latency: Latency, sent_at: float, first_byte_at: float, *, stream: bool) -> None:
    """Record the time to the first byte of an attempt, or how long it waited for one in vain."""
    if first_byte_at >= sent_at:
        latency.record(first_byte_at - sent_at, stream=stream)
    else:
        latency.record_timeout(time.monotonic() - sent_at, stream=stream)


def _upstream_failure(error: UpstreamError, call: Call, attempt: Attempt, caller: Caller) -> Failure:
    """What broke, in terms of what the caller has seen: before the first content a stream has only failed to start."""
    kind = error.kind
    if call.stream and attempt.head_at and not caller.head_sent:
        if kind == "stalled":
            kind = "ttft_timeout"
        elif kind in ("reset", "truncated"):
            kind = "closed_pre"
    return Failure(kind, error.message)

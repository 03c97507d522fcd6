"""Sends one call to its candidates in order until one answers.

    run              healthy candidates first, then, if none answered, one that is in cooldown
    _try             one candidate: send, decide what follows (retry_policy), act on the decision
    AttemptSender    one request to one target (send_attempt)
    _continue        a stream that broke after its first content is continued at a candidate that can do so (continuation)

Until the head of the response has been sent to the caller, any other candidate may still answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count

from gateway import accounting
from gateway.attempts import continuation
from gateway.attempts.admission import Admission, NotAdmittedError
from gateway.attempts.cached_attempt import Caching, new_sender
from gateway.attempts.fit import Fit
from gateway.attempts.hedge import Hedges
from gateway.attempts.outcomes import count_fallback, record_failure, record_not_admitted
from gateway.attempts.overflow import is_too_small
from gateway.attempts.prepare import RequestAdapter
from gateway.attempts.progress import Progress, final_error, in_cooldown, pause
from gateway.attempts.retry_budget import RetryBudget
from gateway.attempts.retry_policy import ARRIVAL_SPREAD_S, MAX_ANNOUNCED_WAIT_S, Decision, Next, Stop, decide, may_send, works
from gateway.attempts.send_attempt import BegunAttempt, Replay
from gateway.call import Attempt, Call
from gateway.config.route import DEFAULT_MAX_ATTEMPTS
from gateway.http.caller import Caller
from gateway.limits.enforce import Limits
from gateway.metrics import Metrics
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.store.limit import Reservation
from gateway.targets.candidate import Candidate, not_among
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry
from providers.base import Failure, Refusal, Target


class Failover:
    """The failover of all calls of one configuration."""

    def __init__(
        self,
        metrics: Metrics,
        limits: Limits | None,
        health: TargetRegistry,
        budget: RetryBudget,
        hedges: Hedges,
        draw: Callable[[], float] = random.random,
        caching: Caching | None = None,
    ) -> None:
        """If `limits` or `caching` is None, no limits or no caches are configured. `draw` returns a number from 0 to 1, for jitter."""
        self.fit = Fit()
        self.copies = 0
        """Number of copies for mirrors in flight."""
        self.requests = RequestAdapter(self.fit, limits)
        self._metrics = metrics
        self._limits = limits if limits is not None and limits.has_target_limits else None
        self._sender = new_sender(self.requests, metrics, self._limits, caching)
        self._health = health
        self._budget = budget
        self._hedges = hedges
        self._draw = draw

    async def run(
        self,
        call: Call,
        caller: Caller,
        candidates: Sequence[Candidate],
        alternates: Callable[[], list[Candidate]],
        begun: BegunAttempt | None = None,
    ) -> None:
        """Send the call to one candidate after another until one answers. If none does, raise the final error.

        `begun` is the first attempt of the first candidate, if its request has been sent. `alternates` returns all candidates of
        the model that accept the call. Those that a split did not choose are tried after the chosen ones, but before targets in cooldown.
        """
        total_s = min(candidates[0].deadlines.total, call.deadline)
        progress = Progress(call, caller, total_s)
        progress.budget = self._budget
        progress.candidates = lambda: [*candidates, *not_among(candidates, alternates())]
        self._budget.earn()
        call.transcript = continuation.transcript_for(call, candidates)
        try:
            await self._run(progress, candidates, alternates, begun)
        finally:
            if progress.has_token:
                progress.return_unused_token()
            count_fallback(self._metrics, call, candidates[0])

    async def _run(
        self, progress: Progress, candidates: Sequence[Candidate], alternates: Callable[[], list[Candidate]], begun: BegunAttempt | None
    ) -> None:
        first = candidates[0]
        if begun is not None and await self._try(progress, first, self._health.health_of(first.backend.target), begun):
            return
        if await self._try_healthy(progress, candidates if begun is None else candidates[1:]):
            return
        # a chosen target may go into cooldown after the split chose it
        others = not_among(candidates, alternates()) if progress.cooling or progress.failure is not None else []
        if await self._try_healthy(progress, others) or await self._try_rest(progress):
            return
        healths = [self._health.health_of(candidate.backend.target) for candidate in (*candidates, *others)]
        raise final_error(progress, healths, all_cooling=len(progress.cooling) == len(healths))

    def is_open(self, candidate: Candidate) -> bool:
        """Return whether `enter` may be called, as `Admission.is_open` does."""
        return Admission.is_open(self._health.health_of(candidate.backend.target))

    def pick_target(self, candidate: Candidate) -> Target | None:
        """Return the target with the credential for the next attempt, or None if `is_open` is false."""
        backend = candidate.backend
        health = self._health.health_of(backend.target)
        return health.pick_credential(backend.targets) if Admission.is_open(health) else None

    def return_target(self, candidate: Candidate, target: Target) -> None:
        """Undo `pick_target`: no request is sent to the target, so the next attempt gets the same credential."""
        self._health.health_of(candidate.backend.target).return_credential(target)

    def enter(self, call: Call, attempt: Attempt, candidate: Candidate, reservation: Reservation | None) -> Admission:
        """Admit an attempt at a target for which `is_open` is true and which has no engine.

        `reservation` is the reservation under the target's limits, if it has any.
        """
        admission = Admission(call, attempt, self._health.health_of(attempt.target), self._limits)
        candidate.backend.latency.in_flight += 1
        admission.enter_now(reservation)
        return admission

    def answered_at_once(self, call: Call, candidate: Candidate, exchange: UpstreamExchange, admission: Admission) -> None:
        """Record that the first attempt of a call, admitted with `enter`, has answered the call."""
        attempt, latency = exchange.attempt, candidate.backend.latency
        admission.succeeded(call.first_byte_at)
        self._metrics.count_target("lockgate_attempts", attempt.target, "ok")
        attempt.ms = exchange.elapsed_ms()
        latency.in_flight -= 1
        latency.record_attempt(attempt.sent_at, call.first_byte_at, stream=call.stream)
        admission.leave(attempt)
        self._budget.earn()
        count_fallback(self._metrics, call, candidate)

    async def send_once(self, call: Call, caller: Caller, candidate: Candidate, total_s: float) -> Failure | None:
        """Send one request without retries or fallbacks. Return its failure, if any. Raise Refusal or NotAdmittedError if none is sent."""
        health = self._health.health_of(candidate.backend.target)
        if not health.is_available:
            raise NotAdmittedError(in_cooldown(health), is_cooling=True)
        progress = Progress(call, caller, total_s)
        try:
            failure = await self._sender.send(progress, candidate, health)
        except NotAdmittedError as error:
            record_not_admitted(self._metrics, progress, candidate, error)
            raise
        if failure is not None:
            self.record_failure(progress, candidate, failure)
        return failure

    async def _try_healthy(self, progress: Progress, candidates: Sequence[Candidate]) -> bool:
        """Try one candidate after another, except those in cooldown, which are recorded. Return whether the caller was answered."""
        for candidate in candidates:
            if progress.tried and candidate.backend.target.name in progress.tried:
                continue
            if progress.overflowed is not None and is_too_small(progress, candidate):
                continue
            health = self._health.health_of(candidate.backend.target)
            is_available = health.is_available
            replay = None if is_available else await self._sender.find_cached(progress, candidate)
            if (is_available or replay is not None) and await self._try(progress, candidate, health, replay=replay):
                return True
            if not is_available:
                progress.note_cooling(candidate)
        return False

    async def _try_rest(self, progress: Progress) -> bool:
        """Try the targets whose cooldown has ended since their turn, then one in cooldown. Return whether the caller was answered."""
        recovered = [each for each in progress.cooling if self._health.health_of(each.backend.target).is_available]
        progress.cooling = not_among(recovered, progress.cooling)
        if recovered and await self._try_healthy(progress, recovered):
            return True
        return bool(progress.cooling) and await self._try_cooling(progress, progress.cooling)

    async def _try_cooling(self, progress: Progress, cooling: list[Candidate]) -> bool:
        """Try a target whose cooldown has ended, or else the one whose cooldown ends first. Return whether the caller was answered.

        Unless failures caused the cooldown, wait until it ends if the end is near and the call may then send a request. Without
        a wait, the request is a probe; if the target accepts no probe now, the call fails.
        """
        patience = min(MAX_ANNOUNCED_WAIT_S, progress.time_left())
        while True:
            healths = [self._health.health_of(each.backend.target) for each in cooling]
            candidate, health = min(zip(cooling, healths, strict=True), key=lambda each: (not each[1].is_available, each[1].seconds_left))
            wait = health.seconds_left
            if wait <= 0 or wait > patience or health.cooldown.reason == "failures":
                break
            if not self._may_send(progress, candidate):
                raise progress.error()
            patience -= wait
            await pause(progress.call, wait + self._draw() * ARRIVAL_SPREAD_S)
        if health.must_wait:
            progress.record_failure(in_cooldown(health), candidate.backend.target.name)
            return False
        progress.is_last_resort = True
        return await self._try(progress, candidate, health)

    async def _try(
        self,
        progress: Progress,
        candidate: Candidate,
        health: TargetHealth,
        begun: BegunAttempt | None = None,
        replay: Replay | None = None,
    ) -> bool:
        """Send the call to one candidate, with retries, or replay a cached answer. Return whether the caller was answered."""
        if begun is None and replay is None and not self._may_send(progress, candidate):
            return False  # the budget may allow a later target
        progress.is_paid = False
        for retries in count():
            progress.is_retry = retries > 0
            if retries:
                self._metrics.count("lockgate_retries", (self._metrics.target_label(candidate.backend.target),))
            elif progress.has_tried:
                self._metrics.count("lockgate_fallbacks", (self._metrics.model_label(progress.call.model),))
            progress.has_tried = True
            try:
                if begun is not None:
                    this, begun = begun, None
                    progress.attempt = this.exchange.attempt
                    progress.note_sent()
                    failure = await self._sender.send(progress, candidate, health, this)
                elif replay is not None:
                    failure = await replay()
                elif candidate.settings.hedge is None or progress.sent:
                    failure = await self._sender.send(progress, candidate, health)
                else:
                    failure, candidate = await self._send_hedged(progress, candidate, health)
            except Refusal as refusal:
                progress.record_refusal(refusal, candidate.backend.target.name)
                return False
            except NotAdmittedError as error:
                record_not_admitted(self._metrics, progress, candidate, error)
                if error.is_cooling:
                    progress.note_cooling(candidate)
                return False
            if failure is None:
                progress.return_token()
                return True
            self.record_failure(progress, candidate, failure)
            decision = self._decide(progress, candidate, failure, retries)
            if isinstance(decision, Stop):
                raise decision.error
            if progress.caller.head_sent:
                return await self._continue(progress, candidate, failure)
            if isinstance(decision, Next) or replay is not None or not await self._wait_for_retry(progress, candidate, decision.after):
                return False
        return False

    def _decide(self, progress: Progress, candidate: Candidate, failure: Failure, retries: int = 0) -> Decision:
        health = self._health.health_of(candidate.backend.target)
        return decide(failure, progress, candidate, health, retries, self._draw)

    def _may_send(self, progress: Progress, candidate: Candidate, *, is_retry: bool = False) -> bool:
        """Return whether one more request may be sent. For each request after its first, the call takes a token of the retry budget."""
        if not may_send(progress, candidate, DEFAULT_MAX_ATTEMPTS):
            return False
        if not progress.sent or progress.take_token(overdraw=not is_retry and works(self._health.health_of(candidate.backend.target))):
            return True
        self._metrics.count("lockgate_retry_budget_exhausted")
        return False

    async def _wait_for_retry(self, progress: Progress, candidate: Candidate, after: float) -> bool:
        """Wait before a retry. Return False if none may be sent, or if the target went into cooldown and another target may answer.

        The retry budget is charged before the wait, so that the call fails at once if the budget is exhausted.
        """
        if not self._may_send(progress, candidate, is_retry=True):
            return False
        if after:
            await pause(progress.call, after)
            health = self._health.health_of(candidate.backend.target)
            if health.ejected or not (health.is_available or progress.is_only_candidate):
                return False
        progress.is_last_resort = progress.is_only_candidate
        return True

    async def _continue(self, progress: Progress, broken: Candidate, failure: Failure) -> bool:
        """Continue a broken stream at a candidate that can do so. Return True if one completes it; otherwise raise the final error."""
        call, transcript = progress.call, progress.call.transcript
        assert transcript is not None
        accounting.settle(call)
        broken_attempt = call.answered_by
        label = self._metrics.model_label(call.model)
        for candidate in continuation.followers(transcript, progress.candidates(), broken):
            health = self._health.health_of(candidate.backend.target)
            progress.is_retry = candidate is broken
            if not health.is_available or not self._may_send(progress, candidate, is_retry=progress.is_retry):
                continue
            size_before = transcript.hand_over(candidate.backend.target.name)
            try:
                next_failure = await self._sender.send(progress, candidate, health)
            except (Refusal, NotAdmittedError):
                transcript.handovers.pop()
                continue
            self._metrics.count("lockgate_continuations", (label, "ok" if next_failure is None else next_failure.kind))
            if next_failure is None:
                progress.return_token()
                return True
            self.record_failure(progress, candidate, next_failure)
            if transcript.size > size_before:
                decision = self._decide(progress, candidate, next_failure)
                if isinstance(decision, Stop):
                    raise decision.error
                return await self._continue(progress, candidate, next_failure)
            transcript.handovers.pop()
        call.answered_by = broken_attempt
        progress.record_failure(failure, broken.backend.target.name)
        raise progress.error()

    async def _send_hedged(
        self, progress: Progress, candidate: Candidate, health: TargetHealth
    ) -> tuple[Failure | None, Candidate]:
        """Send the call to a candidate and, if it is slow, to the next one. Return the failure (None if answered) and its candidate."""
        candidates = progress.candidates()
        later = candidates[candidates.index(candidate) + 1 :] if candidate in candidates else ()
        others = [each for each in later if each.backend is not candidate.backend]
        if not others:
            return await self._sender.send(progress, candidate, health), candidate

        def pick_second() -> Candidate | None:
            return next((each for each in others if self._health.health_of(each.backend.target).is_available), None)

        return await self._hedges.send(progress, candidate, pick_second, self)

    async def send(self, progress: Progress, candidate: Candidate) -> Failure | None:
        """Send one request for a hedge. Return None if the caller was answered, else the failure."""
        return await self._sender.send(progress, candidate, self._health.health_of(candidate.backend.target))

    def is_final(self, progress: Progress, candidate: Candidate, failure: Failure) -> bool:
        """Return whether no other candidate can help after a failure of a hedge."""
        return isinstance(self._decide(progress, candidate, failure), Stop)

    def record_failure(self, progress: Progress, candidate: Candidate, failure: Failure) -> None:
        """Record a failed attempt on the call and in the counters."""
        record_failure(self._metrics, progress, candidate, failure)

    def record_not_admitted(self, progress: Progress, candidate: Candidate, error: NotAdmittedError) -> None:
        """Record that a target did not admit the call."""
        record_not_admitted(self._metrics, progress, candidate, error)

"""Starts a second attempt at the next candidate if the first attempt is slow.

The attempt that responds first answers the call; the other one is cancelled.

    Hedges       starts second attempts after a fixed time or a quantile of the target's latency, for a share of a model's calls
    HedgeRace    runs both attempts of one call. Each attempt has a HedgedCaller; the first to `claim` the caller answers

Nothing is sent to the caller before the claim. The connection of the loser is closed at once. Both attempts are billed;
for the losing attempt, usually only the tokens of the prompt are known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.attempts.admission import NotAdmittedError
from gateway.attempts.billing import aborted_usages
from gateway.attempts.hedge_budget import HedgeBudget, hedge_delay
from gateway.attempts.progress import Progress
from gateway.call import in_ms
from gateway.errors import Headers
from gateway.http.caller import Caller
from providers.base import Failure, Refusal, Target

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.targets.candidate import Candidate


class Sender(Protocol):
    """The part of the failover that a hedge uses."""

    async def send(self, progress: Progress, candidate: Candidate) -> Failure | None:
        """Send one request. Return None if the caller was answered, else the failure."""
        ...

    def record_failure(self, progress: Progress, candidate: Candidate, failure: Failure) -> None:
        """Record a failed attempt on the call and in the counters."""
        ...

    def record_not_admitted(self, progress: Progress, candidate: Candidate, error: NotAdmittedError) -> None:
        """Record that a target did not admit the call."""
        ...

    def is_final(self, progress: Progress, candidate: Candidate, failure: Failure) -> bool:
        """Return whether no other candidate can help after this failure."""
        ...


class Hedges:
    """Starts the hedges of one process. The budgets of models outlive a reload."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._budgets: dict[str, HedgeBudget] = {}

    async def send(
        self, progress: Progress, first: Candidate, pick_second: Callable[[], Candidate | None], sender: Sender
    ) -> tuple[Failure | None, Candidate]:
        """Send the call to `first`, and if that is slow, to the live target that `pick_second` then returns, if any.

        Return the final failure (None after an answer), and the candidate that failed or answered.
        """
        hedge, model = first.settings.hedge, first.hedge_model
        assert hedge is not None
        budget = self._budgets.setdefault(model, HedgeBudget())
        budget.earn(hedge.budget)
        delay = hedge_delay(hedge.after, first.backend.latency, stream=progress.call.stream)
        if delay is None:
            return await sender.send(progress, first), first
        race = HedgeRace(progress, sender)
        try:
            await self._run(race, first, pick_second, budget, delay)
            return await race.result()
        except asyncio.CancelledError:
            race.record_unread()
            raise
        finally:
            try:
                await race.close()
            except asyncio.CancelledError:  # the caller disconnected between the result and its use
                race.record_unread()
                raise
            finally:
                self._count_race(model, race)
                if race.second_was_not_sent:
                    budget.give_back()

    async def _run(
        self, race: HedgeRace, first: Candidate, pick_second: Callable[[], Candidate | None], budget: HedgeBudget, delay: float
    ) -> None:
        """Start both attempts, the second if the first is slow and the budget allows it."""
        await race.start(first, delay)
        if not race.is_undecided or (second := pick_second()) is None:
            return
        if budget.take():
            await race.start(second)
        else:
            self._count(first.hedge_model, "no_budget")

    def _count_race(self, model: str, race: HedgeRace) -> None:
        if len(race.attempts) > 1:
            self._count(model, race.outcome)
        for target in race.cancelled:
            self._metrics.count("lockgate_attempts", (self._metrics.target_label(target), "lost"))

    def _count(self, model: str, outcome: str) -> None:
        self._metrics.count("lockgate_hedges", (self._metrics.model_label(model), outcome))


class HedgeLostError(Exception):
    """The other attempt has claimed the caller."""


class HedgedCaller(Caller):
    """The caller as one of the two attempts uses it. The first attempt to claim the caller may answer."""

    __slots__ = ("_claim", "_real")

    def __init__(self, real: Caller, claim: Callable[[], None]) -> None:
        self._real = real
        self._claim = claim
        self.headers = real.headers
        self.head_sent = False
        self.disconnected = False

    @property
    def has_gone(self) -> bool:
        return self._real.disconnected

    def claim(self) -> None:
        """Claim the caller. Raise HedgeLostError if the other attempt has already claimed the caller."""
        self._claim()

    def pass_natively(self) -> None:
        self._real.pass_natively()

    async def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.head_sent = True
        await self._real.respond(status, headers, body)

    async def start_stream(self, headers: Headers) -> None:
        self.head_sent = True
        await self._real.start_stream(headers)

    async def write(self, data: bytes) -> None:
        await self._real.write(data)

    async def finish(self, data: bytes) -> None:
        await self._real.finish(data)


class HedgedAttempt:
    """One of the two attempts, with its own progress and task."""

    __slots__ = ("candidate", "is_recorded", "progress", "task")

    def __init__(
        self, progress: Progress, candidate: Candidate, claim: Callable[[HedgedAttempt], None], sender: Sender
    ) -> None:
        self.candidate = candidate
        self.is_recorded = False
        """Whether its failure has been recorded."""
        caller = HedgedCaller(progress.caller, lambda: claim(self))
        self.progress = Progress(progress.call, caller, progress.total_s)
        self.progress.candidates, self.progress.is_last_resort = progress.candidates, progress.is_last_resort
        self.task = asyncio.ensure_future(sender.send(self.progress, candidate))

    @property
    def failure(self) -> Failure | None:
        """The failure with which the attempt ended; None while the attempt runs, or if it answered, was cancelled or was not sent."""
        if not self.task.done() or self.task.cancelled() or self.task.exception() is not None:
            return None
        return self.task.result()

    @property
    def has_ended(self) -> bool:
        """Whether the attempt's task is done."""
        return self.task.done()


class HedgeRace:
    """Two attempts of one call. The second attempt starts if the first one is slow."""

    def __init__(self, progress: Progress, sender: Sender) -> None:
        self._progress = progress
        self._sender = sender
        self.attempts: list[HedgedAttempt] = []
        self.winner: HedgedAttempt | None = None
        self.cancelled: list[Target] = []
        """The targets of attempts that were cancelled."""

    @property
    def is_undecided(self) -> bool:
        """Whether the first attempt was sent and has not responded."""
        first = self.attempts[0]
        return self.winner is None and not first.has_ended and bool(first.progress.sent)

    @property
    def second_was_not_sent(self) -> bool:
        """Whether a second attempt was started but not sent, because its target did not admit it."""
        return len(self.attempts) > 1 and not self.attempts[1].progress.sent

    @property
    def outcome(self) -> str:
        """The outcome of the second attempt in the counter `lockgate_hedges`."""
        if self.winner is None:
            return "failed"
        return "lost" if self.winner is self.attempts[0] else "won"

    async def start(self, candidate: Candidate, timeout_s: float | None = None) -> None:
        """Start an attempt; with `timeout_s`, wait at most that long for the end of the attempt."""
        attempt = HedgedAttempt(self._progress, candidate, self._claimed, self._sender)
        self.attempts.append(attempt)
        if timeout_s is not None:
            await asyncio.wait({attempt.task}, timeout=timeout_s)

    def _claimed(self, claimant: HedgedAttempt) -> None:
        """Let the first claimant win; record, bill and cancel the other attempt. Raise HedgeLostError for the other attempt's claim."""
        if self.winner is None:
            self.winner = claimant
            for other in self.attempts:
                if other is not claimant:
                    self._lose(other)
            self._put_last(claimant)
        elif self.winner is not claimant:
            raise HedgeLostError

    def _lose(self, loser: HedgedAttempt) -> None:
        self._record(loser)
        if loser.has_ended:
            return
        attempt = loser.progress.attempt
        if loser.progress.sent and attempt is not None:
            self.cancelled.append(loser.candidate.backend.target)
            attempt.outcome, attempt.ms = "lost", in_ms(time.monotonic() - attempt.sent_at)
            # an estimate, until the end of the attempt shows what its provider reported
            attempt.billed = aborted_usages(self._progress.call, attempt, loser.candidate.backend)
        loser.task.cancel()

    def _put_last(self, last: HedgedAttempt) -> None:
        """In the call's list of attempts, move the other attempt to the place before `last`."""
        attempts, last_attempt = self._progress.call.attempts, last.progress.attempt
        for other in self.attempts:
            attempt = other.progress.attempt
            if other is not last and last_attempt is not None and attempt is not None:
                attempts.remove(attempt)
                attempts.insert(attempts.index(last_attempt), attempt)

    async def result(self) -> tuple[Failure | None, Candidate]:
        """Wait for the result.

        Return the failure (None after an answer) and the candidate of the attempt that claimed the caller; if neither
        did, return those of the first attempt.
        """
        waiting = {attempt.task for attempt in self.attempts}
        while waiting and self.winner is None and not self._is_settled():
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.winner is not None:
            return await self.winner.task, self.winner.candidate
        first, *others = self.attempts
        for other in others:
            self._lose(other)
            self._progress.tried.add(other.candidate.backend.target.name)
        self._put_last(first)
        return await first.task, first.candidate

    def record_unread(self) -> None:
        """Record the failures of attempts that ended just before the call was cancelled, because nothing else reads their results."""
        if self.winner is None:
            for each in self.attempts:
                self._record(each)

    def _record(self, ended: HedgedAttempt) -> None:
        """Record the failure of an attempt that has ended, once."""
        if ended.is_recorded or not ended.has_ended or ended.task.cancelled() or ended.progress.attempt is None:
            return
        error = ended.task.exception()
        ended.is_recorded = True
        if isinstance(error, NotAdmittedError):
            self._sender.record_not_admitted(ended.progress, ended.candidate, error)
        elif ended.failure is not None:
            self._sender.record_failure(ended.progress, ended.candidate, ended.failure)

    def _is_settled(self) -> bool:
        """Return whether the first attempt's failure rules out every candidate.

        If the second attempt ended with an unexpected error, raise this error.
        """
        first, *others = self.attempts
        if first.has_ended and not self._may_go_on(first):
            return True
        for other in others:
            if other.has_ended and other.failure is None and not self._may_go_on(other):
                other.task.result()
        return False

    def _may_go_on(self, ended: HedgedAttempt) -> bool:
        """Return whether another candidate may still answer after this attempt has ended."""
        if ended.failure is not None:
            return not self._sender.is_final(ended.progress, ended.candidate, ended.failure)
        return isinstance(ended.task.exception(), Refusal | NotAdmittedError)

    async def close(self) -> None:
        """End both attempts, and record the winning attempt in the progress of the call, or the first attempt if neither won."""
        last = self.winner or self.attempts[0]
        has_gone = self._progress.caller.has_gone  # if so, both attempts have the outcome `left`
        for attempt in self.attempts:
            is_other = self.winner is None and attempt is not last and not attempt.has_ended
            if is_other and not has_gone and attempt.progress.attempt is not None:
                attempt.progress.attempt.outcome = "lost"
            attempt.task.cancel()
        try:
            await asyncio.gather(*(attempt.task for attempt in self.attempts), return_exceptions=True)
        finally:
            if self.winner is None:
                self._put_last(last)
            self._progress.sent += sum(attempt.progress.sent for attempt in self.attempts)
            self._progress.attempt = last.progress.attempt

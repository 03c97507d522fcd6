"""A second attempt at the next place when the first is slow to say anything: the first to speak answers, the other one is given up.

    Hedges   when: after a time or a quantile of that place's own times, and only for so many of a model's calls
    Race     how: each attempt sees the caller through a Contender; the first `claim` wins

Nothing has gone to the caller before the claim. The loser's connection is closed at once. Both are billed: the loser by its prompt,
which is all that is known of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from gateway import usage as accounting
from gateway.attempts.admission import TurnedAway
from gateway.attempts.progress import Journey
from gateway.call import in_ms
from gateway.errors import FAILURES, Headers
from gateway.http.caller import Caller
from providers.base import Failure, Refusal, Target, Usage

if TYPE_CHECKING:
    from gateway.config.limit import HedgeDelay
    from gateway.metrics import Metrics
    from gateway.targets.candidate import Candidate
    from gateway.targets.latency import Latency

MILLION = 10**6
MOST_CREDIT = 10
"""Second attempts that may be saved up."""

Send = Callable[[Journey, "Candidate"], Awaitable[Failure | None]]
"""One attempt at one place."""
Note = Callable[[Journey, "Candidate", Failure], None]
"""What is to be written down of a failed one."""


def hedge_delay(after: HedgeDelay, pace: Latency, *, stream: bool) -> float | None:
    """Return the seconds to wait before the second attempt, or None while too few latencies of the target are known."""
    return after.seconds if after.share is None else pace.quantile(after.share, stream=stream)


class HedgeBudget:
    """Every call brings a share of a second attempt, in millionths; there are never more than that share of the calls."""

    __slots__ = ("_credit",)

    def __init__(self) -> None:
        self._credit = 0

    def earn(self, share: float) -> None:
        """One more call."""
        self._credit = min(MOST_CREDIT * MILLION, self._credit + int(share * MILLION + 0.5))

    def take(self) -> bool:
        """Pay for one second attempt, if that is possible."""
        if self._credit < MILLION:
            return False
        self._credit -= MILLION
        return True


class Hedges:
    """The hedging of a process: a budget for each model that hedges, which a reload does not touch."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._budgets: dict[str, HedgeBudget] = {}

    async def send(self, journey: Journey, first: Candidate, second: Candidate, send: Send, note: Note) -> tuple[Failure | None, Candidate]:
        """An attempt at `first`, and one at `second` if it is slow; None when the caller has an answer, and which place spoke last."""
        hedge, model = first.settings.hedge, first.hedge_model
        assert hedge is not None
        budget = self._budgets.setdefault(model, HedgeBudget())
        budget.earn(hedge.budget)
        delay = hedge_delay(hedge.after, first.backend.latency, stream=journey.call.stream)
        if delay is None:
            return await send(journey, first), first
        race = Race(journey, send, note)
        try:
            await race.start(first, delay)
            if race.undecided and not budget.take():
                self._count(model, "no_budget")
            elif race.undecided:
                await race.start(second)
            return await race.result()
        finally:
            await race.close()
            if len(race.runners) > 1:
                self._count(model, race.outcome)
            for target in race.given_up:
                self._metrics.count("lockgate_attempts", (self._metrics.target_label(target), "lost"))

    def _count(self, model: str, outcome: str) -> None:
        self._metrics.count("lockgate_hedges", (self._metrics.model_label(model), outcome))


class Lost(Exception):
    """The other attempt spoke first."""


class Contender(Caller):
    """The caller as one of two attempts sees it: whoever claims it first may answer."""

    __slots__ = ("_claim", "_real")

    def __init__(self, real: Caller, claim: Callable[[], None]) -> None:
        self._real = real
        self._claim = claim
        self.headers = real.headers
        self.head_sent = False
        self.disconnected = False

    def claim(self) -> None:
        """The attempt has something to say; Lost when the other one had it before."""
        self._claim()

    async def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer at once."""
        self.head_sent = True
        await self._real.respond(status, headers, body)

    async def start_stream(self, headers: Headers) -> None:
        """The head of a stream."""
        self.head_sent = True
        await self._real.start_stream(headers)

    async def write(self, data: bytes) -> None:
        """Events of the stream."""
        await self._real.write(data)

    async def finish(self, data: bytes) -> None:
        """The stream's last bytes."""
        await self._real.finish(data)


class Runner:
    """One of the two attempts, and the task that makes it."""

    __slots__ = ("choice", "journey", "task")

    def __init__(self, journey: Journey, choice: Candidate, claim: Callable[[Runner], None], send: Send) -> None:
        self.choice = choice
        caller = Contender(journey.caller, lambda: claim(self))
        self.journey = Journey(journey.call, caller, journey.total, alone=journey.alone)
        self.journey.places = journey.places
        self.task = asyncio.ensure_future(send(self.journey, choice))

    @property
    def failure(self) -> Failure | None:
        """Why it ended without an answer; None while it has not, or where it was never sent."""
        if not self.task.done() or self.task.cancelled() or self.task.exception() is not None:
            return None
        return self.task.result()

    @property
    def ended(self) -> bool:
        """It is over."""
        return self.task.done()


class Race:
    """Two attempts at one call, the second begun when the first is slow."""

    def __init__(self, journey: Journey, send: Send, note: Note) -> None:
        self._journey = journey
        self._send = send
        self._note = note
        self.runners: list[Runner] = []
        self.winner: Runner | None = None
        self.given_up: list[Target] = []
        """Where an attempt was cut off."""

    @property
    def undecided(self) -> bool:
        """The first attempt was sent and has not said anything yet."""
        return self.winner is None and not self.runners[0].ended and bool(self.runners[0].journey.sent)

    @property
    def outcome(self) -> str:
        """What came of the second attempt."""
        if self.winner is None:
            return "failed"
        return "lost" if self.winner is self.runners[0] else "won"

    async def start(self, choice: Candidate, patience: float | None = None) -> None:
        """Begin an attempt; with `patience`, wait so many seconds for its end."""
        runner = Runner(self._journey, choice, self._claimed, self._send)
        self.runners.append(runner)
        if patience is not None:
            await asyncio.wait({runner.task}, timeout=patience)

    def _claimed(self, runner: Runner) -> None:
        """The first to speak wins; what the other one did is written down and billed, and it is cancelled."""
        if self.winner is None:
            self.winner = runner
            for other in self.runners:
                if other is not runner:
                    self._lose(other)
            self._put_last(runner)
        elif self.winner is not runner:
            raise Lost

    def _lose(self, loser: Runner) -> None:
        if loser.failure is not None:
            self._note(loser.journey, loser.choice, loser.failure)
        if loser.ended:
            return
        attempt = loser.journey.attempt
        if loser.journey.sent and attempt is not None:
            self.given_up.append(loser.choice.backend.target)
            attempt.outcome, attempt.ms = "lost", in_ms(time.monotonic() - attempt.sent_at)
            # an estimate, until the end of the attempt shows what its provider reported
            attempt.billed = (Usage(accounting.prompt_tokens(self._journey.call, attempt), 0, estimated=True),)
        loser.task.cancel()

    def _put_last(self, runner: Runner) -> None:
        """Put the attempt of one of them after that of the other."""
        attempts, own = self._journey.call.attempts, runner.journey.attempt
        for other in self.runners:
            attempt = other.journey.attempt
            if other is not runner and own is not None and attempt is not None:
                attempts.remove(attempt)
                attempts.insert(attempts.index(own), attempt)

    async def result(self) -> tuple[Failure | None, Candidate]:
        """None when the caller has an answer; else the failure, or why the first attempt was not made; and which place it was."""
        waiting = {runner.task for runner in self.runners}
        while waiting and self.winner is None and not self._settled():
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.winner is not None:
            return await self.winner.task, self.winner.choice
        first, *others = self.runners
        for other in others:
            self._lose(other)
            self._journey.asked.add(other.choice.backend.target.name)
        self._put_last(first)
        return await first.task, first.choice

    def _settled(self) -> bool:
        """The first attempt ended in a way that no other place would change, or the second broke in a way that nobody expected."""
        first, *others = self.runners
        if first.ended and not _went_on(first):
            return True
        for other in others:
            if other.ended and other.failure is None and not _went_on(other):
                other.task.result()
        return False

    async def close(self) -> None:
        """End both attempts. The latest one is that of the winner, or of the first."""
        last = self.winner or self.runners[0]
        for runner in self.runners:
            if not runner.ended and runner is not last and self.winner is None and runner.journey.attempt is not None:
                runner.journey.attempt.outcome = "lost"
            runner.task.cancel()
        await asyncio.gather(*(runner.task for runner in self.runners), return_exceptions=True)
        if self.winner is None:
            self._put_last(last)
        self._journey.sent += sum(runner.journey.sent for runner in self.runners)
        self._journey.attempt = last.journey.attempt


def _went_on(runner: Runner) -> bool:
    """Whether another place may still answer after this one's end."""
    if runner.failure is not None:
        return FAILURES[runner.failure.kind].then != "stop"
    return isinstance(runner.task.exception(), Refusal | TurnedAway)

"""A second attempt at the next place when the first is slow to say anything: the first to speak answers, the other one is given up.

    Hedges   when: after a time or a quantile of that place's own times, and only for so many of a model's calls
    Race     how: each attempt works on a fork of the call and sees the caller through a Contender; the first `claim` wins

Nothing has gone to the caller before the claim. The loser's connection is closed at once. Both are billed: the loser by its prompt,
which is all that is known of it.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from gateway import usage as accounting
from gateway.attempts.admission import TurnedAway
from gateway.attempts.progress import Journey
from gateway.call import Aside, Call, in_ms
from gateway.catalog.prices import FREE
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
    """One of the two attempts: its fork of the call, and the task that carries it out."""

    __slots__ = ("call", "choice", "journey", "task")

    def __init__(self, journey: Journey, choice: Candidate, claim: Callable[[Runner], None], send: Send) -> None:
        self.choice = choice
        self.call = copy.copy(journey.call)
        self.call.attempts, self.call.asides = list(journey.call.attempts), list(journey.call.asides)
        caller = Contender(journey.caller, lambda: claim(self))
        self.journey = Journey(self.call, caller, journey.total, alone=journey.alone)
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
        self._before = len(journey.call.attempts)
        self._asides_before = len(journey.call.asides)
        self._estimate: Aside | None = None
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
        if self.runners:  # the other's place in the order, so that the two never look like the same attempt
            runner.call.attempts.append(self.runners[0].call.attempts[-1])
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
            self._put_together(runner)
            self._adopt(runner)
            self._journey.call.status = 200  # for who looks at calls under way
        elif self.winner is not runner:
            raise Lost

    def _lose(self, loser: Runner) -> None:
        if loser.failure is not None:
            self._note(loser.journey, loser.choice, loser.failure)
        if loser.ended:
            self._correct(loser)
            return
        if loser.journey.sent:
            self.given_up.append(loser.choice.backend.target)
            call, place = loser.call, loser.choice.backend
            attempt = call.attempts[-1]
            attempt.outcome, attempt.ms = "lost", in_ms(time.monotonic() - call.sent_at)
            call.usage = Usage(accounting.prompt_tokens(call), 0, estimated=True)
            self._estimate = Aside(place.target.name, call.usage, (place.price or FREE).usage_cost(call.usage))
            for each in self.runners:
                if each is not loser:
                    each.call.asides.append(self._estimate)
        loser.task.cancel()
        loser.task.add_done_callback(lambda _: self._correct(loser))

    def _correct(self, loser: Runner) -> None:
        """What its provider said that the loser used takes the estimate's place."""
        asides = (self.winner or self.runners[0]).call.asides
        reported, loser.call.asides = loser.call.asides[self._asides_before :], []
        if reported and self._estimate in asides:
            asides.remove(self._estimate)
        asides.extend(reported)

    def _put_together(self, last: Runner) -> None:
        """The attempts of both on the call of one of them, its own last."""
        own = last.call.attempts[-1]
        others = [one for each in self.runners if each is not last for one in each.call.attempts[self._before :] if one is not own]
        last.call.attempts[self._before :] = [*others, own]

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
        self._put_together(first)
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
        """Nothing of the race is left behind; the call is as its winner (or the first attempt) had it."""
        tasks = [runner.task for runner in self.runners]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        last = self.winner or self.runners[0]
        for other in self.runners:
            if other is not last:
                self._correct(other)
        self._journey.sent += sum(runner.journey.sent for runner in self.runners)
        self._adopt(last)

    def _adopt(self, runner: Runner) -> None:
        """The call is as one of its attempts had it."""
        for name in Call.__struct_fields__:
            setattr(self._journey.call, name, getattr(runner.call, name))


def _went_on(runner: Runner) -> bool:
    """Whether another place may still answer after this one's end."""
    if runner.failure is not None:
        return FAILURES[runner.failure.kind].then != "stop"
    return isinstance(runner.task.exception(), Refusal | TurnedAway)

"""Calls, failures, recoveries and disconnects in random order: while one target works, every call is answered and nothing leaks.

A schedule is a sequence of steps that a seed determines: a call starts or its caller leaves, an upstream answers, the store decides
on a limit, a target begins to fail or works again, or time passes. No step depends on real time.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from functools import partial
from typing import Any, cast

import pytest

import providers
from gateway.attempts.failover import Failover
from gateway.attempts.hedge import Hedges
from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Call
from gateway.config.limit import HedgeDelay
from gateway.config.model import HedgeConfig, ModelConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import Order, Ref, Route, Split
from gateway.config.secret import Secret
from gateway.limits.enforce import Limits
from gateway.metrics import Metrics
from gateway.routing.route_query import RouteQuery
from gateway.routing.router import Router
from gateway.store.limit import Costs, Reservation
from gateway.targets.backend import Backend
from gateway.targets.candidate import Model
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, Transport, UpstreamError
from providers.base import Failure, Target, WireRequest
from tests.support.attempts import call_with
from tests.support.scripted import EVENTS, Recorder, ScriptedResponse, completion, event
from tests.support.search import FULL

CALLS, MAX_IN_FLIGHT, TOKENS = 100, 24, 100_000.0
NAMES = ("a/x", "b/y", "c/z")
TARGETS = tuple(Ref(*name.split("/")) for name in NAMES)
FAILURES: tuple[int | str, ...] = (500, 503, 429, 401, 403, 404, "connect", "header_timeout", "closed_pre", "overloaded")
"""Statuses and kinds of errors with which a failing target answers; `overloaded`: no connection to it becomes free."""
ROUTES: dict[str, dict[str, Route]] = {
    "order": {"m": Order(TARGETS)},
    "split": {"m": Split(tuple((each, 1.0) for each in TARGETS))},
    "order of splits": {"m": Order((Split(((TARGETS[0], 1.0), (TARGETS[1], 2.0))), TARGETS[2]))},
    "nested models": {"m": Split(((Ref(None, "inner"), 1.0), (TARGETS[2], 1.0))), "inner": Order(TARGETS[:2])},
}


class Simulation:
    """A failover over three upstreams, of which `working` always answers, and the things that its calls wait for."""

    def __init__(self, seed: int, route: str, *, hedge: bool = False, credentials: int = 1, queue: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.working = self.random.choice(NAMES)
        self.failing: dict[str, int | str] = {}
        self.pending: list[asyncio.Future[None]] = []
        self.calls: list[Call] = []
        self.settled: Counter[bool] = Counter()
        self.admitted = 0
        self.probes: Counter[str] = Counter()
        """Requests in flight that were sent to a target in cooldown or after its cooldown, before it has answered."""
        self.registry = TargetRegistry(lambda: self.now)
        keys = tuple(Secret(f"k{number}") for number in range(credentials))
        self.registry.configure({
            name: ProviderConfig(name=name, api_key=keys, **({"max_concurrent": 2, "max_queue": 1000, "max_wait": 1000.0} if queue else {}))
            for name in "abc"
        })  # fmt: skip
        self.backends = {(ref.provider or "", ref.model): self._backend(ref, credentials) for ref in TARGETS}
        balance = self.random.choice(["weighted", "least_busy", "session", "latency", "prefix"])
        hedging = HedgeConfig(HedgeDelay(seconds=0.0), budget=0.05) if hedge else None
        models = {
            name: ModelConfig(name=name, targets=each, attempts=50, balance=cast("Any", balance), hedge=hedging)
            for name, each in ROUTES[route].items()
        }
        self.router = Router(
            {name: Model(name, each.targets, each) for name, each in models.items()},
            lambda provider, model, replica="": self.backends[provider, model],
            draw=self.random.random,
            is_live=self.registry.is_live,
        )
        self.budget = RetryBudget(share=0.0, floor=TOKENS, clock=lambda: 0.0)
        metrics = Metrics(["m"], NAMES, dict.fromkeys("abc", "openai"))
        self.failover = Failover(metrics, None, self.registry, self.budget, Hedges(metrics), draw=lambda: 0.0)
        self.failover._sender._limits = cast("Limits", self)

    def _backend(self, ref: Ref, credentials: int) -> Backend:
        target = partial(Target, str(ref), ref.provider or "", providers.get("openai"), ref.model, "http://upstream/v1")
        targets = tuple(target(credential=f"k{number}") for number in range(credentials))
        return Backend(targets, Origin("http", str(ref), 80), cast("Transport", self), Deadlines())

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.append(waiter)
        await waiter

    async def admit_target(self, call: Call, target: Target) -> Reservation | Failure | None:
        """Decide on the limits of a target after a round trip to the store."""
        await self._wait()
        self.admitted += 1
        return Reservation(call.id, (), Costs(), (), (), 0)

    def settle_attempt(self, attempt: object, reservation: Reservation, *, is_sent: bool = True) -> None:
        """Record the settlement."""
        self.settled[is_sent] += 1

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Answer when the schedule says so, as the target then does. Fail if the call should have gone to another target."""
        health = self.registry.health_of(self.backends[cast("Any", tuple(origin.host.split("/")))].target)
        is_probe = health.state != "live"
        assert not is_probe or (health.probe_in_flight and not self.probes[origin.host]), f"{origin.host} is {health.state}"
        if (cooldowns := health.credential_cooldowns()) and not is_probe:
            assert cooldowns[int(dict(request.headers)["authorization"][-1])].until <= self.now, "the credential is in cooldown"
        if self.failing.get(origin.host) == "overloaded":
            raise UpstreamError("overloaded", "no connection became free")
        request.written = True
        self.probes[origin.host] += is_probe
        try:
            await self._wait()
        finally:
            self.probes[origin.host] -= is_probe
        how = self.failing.get(origin.host)
        if how == "overloaded":
            how = "closed_pre"
        if isinstance(how, str):
            raise UpstreamError(cast("Any", how), "scripted")
        if how is not None:
            headers = [(b"retry-after", b"30")] if self.random.random() < 0.3 else []
            return ScriptedResponse([json.dumps({"error": {"message": "no", "code": None}}).encode()], headers, how)
        if json.loads(request.body).get("stream"):
            return ScriptedResponse([event({"content": "Hel"}), event({}, "stop"), b"data: [DONE]\n\n"], EVENTS)
        return ScriptedResponse([completion()])

    async def run(self) -> list[tuple[Call, Recorder, BaseException | None]]:
        """Run the schedule. Return the calls that were not cancelled, with their errors."""
        running: list[tuple[Call, Recorder, asyncio.Task[None]]] = []
        ended: list[tuple[Call, Recorder, asyncio.Task[None]]] = []
        while len(ended) + len(running) < CALLS or running:
            step = self.random.random()
            if step < 0.3 and len(running) < MAX_IN_FLIGHT and len(ended) + len(running) < CALLS:
                running.append(self._start())
            elif step < 0.33 and running:
                self.random.choice(running)[2].cancel()
            elif step < 0.36:
                self.now += self.random.choice([0.5, 5.0, 40.0])
            elif step < 0.46:
                self._change(self.random.choice([name for name in NAMES if name != self.working]))
            elif self.pending:
                waiter = self.pending.pop(self.random.randrange(len(self.pending)))
                if not waiter.done():
                    waiter.set_result(None)
            for _ in range(self.random.randrange(6)):
                await asyncio.sleep(0)
            ended += [each for each in running if each[2].done()]
            running = [each for each in running if not each[2].done()]
        return [(call, recorder, task.exception()) for call, recorder, task in ended if not task.cancelled()]

    def _start(self) -> tuple[Call, Recorder, asyncio.Task[None]]:
        call, recorder = call_with(stream=self.random.random() < 0.4), Recorder()
        self.calls.append(call)
        assert call.body is not None
        if call.stream:
            call.body.set("stream", True)
        model, query = self.router.find("m"), RouteQuery(call, [(b"x-session-id", b"%d" % self.random.randrange(9))], 100)
        alternates = partial(self.router.alternates, model, query)
        run = self.failover.run(call, recorder.caller(), self.router.candidates(model, query), alternates)
        return call, recorder, asyncio.ensure_future(run)

    def _change(self, name: str) -> None:
        if name in self.failing and self.random.random() < 0.5:
            del self.failing[name]
        else:
            self.failing[name] = self.random.choice(FAILURES)

    def assert_idle(self) -> None:
        """Check that nothing is in flight, waiting or reserved."""
        for health in self.registry.all():
            assert (health.in_flight, health.probe_in_flight, health.waiting) == (0, False, 0), health.name
            assert health.bulkhead is None or health.bulkhead.running == 0
        assert {name: each.latency.in_flight for name, each in self.backends.items() if each.latency.in_flight} == {}
        assert self.settled.total() == self.admitted


def tokens_used(call: Call) -> int:
    """Return the number of tokens that a call keeps: one for each request after its first, except for a fallback that answered."""
    sent = sum(each.is_written for each in call.attempts)
    return max(0, sent - 1 - (call.answered_by is not None and not is_retry(call)))


def is_retry(call: Call) -> bool:
    """Return whether the last request of a call went to the same target as the one before, with another credential."""
    return len(call.attempts) > 1 and call.attempts[-1].target.name == call.attempts[-2].target.name


@pytest.mark.search
@pytest.mark.parametrize("seed", range(10 if FULL else 1))
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("features", [{}, {"queue": True}, {"credentials": 2, "queue": True}, {"hedge": True}], ids=str)
async def test_while_one_target_works_every_call_is_answered_and_nothing_leaks(seed: int, route: str, features: dict[str, Any]) -> None:
    one = Simulation(seed, route, **features)
    for call, recorder, error in await one.run():
        assert (error, recorder.status) == (None, 200), [(each.target.name, each.outcome) for each in call.attempts]
        assert call.answered_by is not None
        assert recorder.headers[b"x-gateway-target"].decode() == call.answered_by.target.name
    one.assert_idle()
    if not features.get("hedge"):  # whose first two requests are not charged to the retry budget
        assert TOKENS - one.budget._tokens == sum(map(tokens_used, one.calls))

"""Hedged attempts: the target and the charge of the second one, and the records of attempts whose call is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.config.limit import HedgeDelay
from gateway.config.model import HedgeConfig
from gateway.config.provider import ProviderConfig
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest
from tests.flows.live import eventually
from tests.support.attempts import call_with, target_named
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, completion, failover_over


class HeldTransport(ScriptedTransport):
    """A transport that fails when `release` is set. `begun` and `failed` are set before and after that."""

    def __init__(self) -> None:
        super().__init__(UpstreamError("dns", "unknown"))
        self.begun, self.release, self.failed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Wait for the release, then do what the script says."""
        self.begun.set()
        await self.release.wait()
        self.failed.set()
        return await super().send(origin, request, deadlines)


@pytest.mark.parametrize("steps", range(8))
async def test_attempt_that_failed_just_before_its_caller_disconnected_is_recorded_as_failed_once(steps: int) -> None:
    metrics = Metrics(["m"], ["a/x", "b/y"], {"a": "openai", "b": "openai"})
    call, up = call_with(), HeldTransport()
    hedge = HedgeConfig(HedgeDelay(seconds=3600.0))
    route = [candidate_over(up, name, attempts=1, hedge=hedge) for name in ("a/x", "b/y")]
    run = asyncio.ensure_future(failover_over(TargetRegistry(), metrics).run(call, Recorder().caller(), route, list))
    await up.begun.wait()
    up.release.set()
    await up.failed.wait()
    for _ in range(steps):  # the caller disconnects at each step of the event loop until the failure is read
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises((asyncio.CancelledError, GatewayError)):
        await run
    assert [each.outcome for each in call.attempts] == ["dns"]
    assert metrics.counts["lockgate_attempts"] == {("a/x", "dns"): 1}


class AnswerOnRelease(HeldTransport):
    """A transport that answers when `release` is set. `on_begin` is called when a request arrives."""

    def __init__(self, on_begin: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.script = [ScriptedResponse([completion()])]
        self.on_begin = on_begin

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Answer after the release."""
        self.on_begin()
        return await super().send(origin, request, deadlines)


async def test_the_second_attempt_goes_to_a_target_that_is_live_when_it_starts() -> None:
    registry, cooling, up = TargetRegistry(), ScriptedTransport(), ScriptedTransport(ScriptedResponse([completion()]))
    hedge = HedgeConfig(HedgeDelay(seconds=0.001), budget=1.0)
    first = AnswerOnRelease(lambda: registry.health_of(target_named("b/y")).apply_remote(None, 60.0, "failures"))
    route = [candidate_over(first, hedge=hedge), candidate_over(cooling, "b/y", hedge=hedge), candidate_over(up, "c/z", hedge=hedge)]
    call, recorder = call_with(), Recorder()
    await failover_over(registry).run(call, recorder.caller(), route, list)
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("a/x", "lost"), ("c/z", "ok")]
    assert recorder.headers[b"x-gateway-target"] == b"c/z"


async def test_a_second_attempt_that_is_not_admitted_is_not_charged_to_the_budget() -> None:
    registry = TargetRegistry()
    registry.configure({"b": ProviderConfig(name="b", max_concurrent=1, max_queue=0)})
    second = registry.health_of(target_named("b/y"))
    assert second.bulkhead is not None
    second.bulkhead.enter()
    failover, first = failover_over(registry), AnswerOnRelease()
    hedge = HedgeConfig(HedgeDelay(seconds=0.001), budget=1.0)
    route = [candidate_over(first, hedge=hedge), candidate_over(ScriptedTransport(), "b/y", hedge=hedge)]
    run = asyncio.create_task(failover.run(call_with(), Recorder().caller(), route, list))
    await eventually(lambda: second.shed == 1)
    first.release.set()
    await run
    (budget,) = failover._hedges._budgets.values()
    assert (budget.take(), budget.take()) == (True, False)

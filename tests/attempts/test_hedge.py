"""The records of hedged attempts whose call is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.limit import HedgeDelay
from gateway.config.model import HedgeConfig
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest
from tests.support.attempts import call_with
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, failover_over


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

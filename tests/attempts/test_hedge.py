"""The records of hedged attempts whose call is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.limit import HedgeDelay
from gateway.config.model import HedgeConfig
from gateway.metrics import Metrics
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest
from tests.support.attempts import call_with
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, failover_over


class HeldTransport(ScriptedTransport):
    """A transport that fails when `release` is set."""

    def __init__(self) -> None:
        super().__init__(UpstreamError("dns", "unknown"))
        self.release = asyncio.Event()

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Wait for the release, then do what the script says."""
        await self.release.wait()
        return await super().send(origin, request, deadlines)


async def test_attempt_that_failed_just_before_its_caller_left_is_recorded_as_failed() -> None:
    metrics = Metrics(["m"], ["a/x", "b/y"], {"a": "openai", "b": "openai"})
    call, up = call_with(), HeldTransport()
    hedge = HedgeConfig(HedgeDelay(seconds=3600.0))
    route = [candidate_over(up, name, hedge=hedge) for name in ("a/x", "b/y")]
    run = asyncio.ensure_future(failover_over(TargetRegistry(), metrics).run(call, Recorder().caller(), route, list))
    while not call.attempts:
        await asyncio.sleep(0)
    up.release.set()
    while not call.attempts[0].ms:  # set in the last step of the attempt's task
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [each.outcome for each in call.attempts] == ["dns"]
    assert metrics.counts["lockgate_attempts"] == {("a/x", "dns"): 1}

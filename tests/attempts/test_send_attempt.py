"""One attempt: its admission, its deadlines, and the effect of its outcome on the target."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.attempts.send_attempt import MIN_TIME_LEFT_S
from gateway.config.provider import ProviderConfig
from gateway.errors import GatewayError
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest
from tests.flows.live import eventually
from tests.support.attempts import call_with
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, completion, failover_over


class DeadlineTransport(ScriptedTransport):
    """Keeps the deadlines of each request."""

    def __init__(self, *script: ScriptedResponse) -> None:
        super().__init__(*script)
        self.deadlines: list[Deadlines] = []

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        self.deadlines.append(deadlines)
        return await super().send(origin, request, deadlines)


async def test_wait_for_a_slot_is_part_of_the_deadline_of_the_call() -> None:
    registry = TargetRegistry()
    registry.configure({"a": ProviderConfig(name="a", max_concurrent=1)})
    up = DeadlineTransport(ScriptedResponse([completion()]))
    route = candidate_over(up)
    bulkhead = registry.health_of(route.backend.target).bulkhead
    assert bulkhead is not None
    bulkhead.enter()
    call = call_with()
    call.started -= 599.5  # of the 600 s that a call may take
    waiting = asyncio.create_task(failover_over(registry).run(call, Recorder().caller(), [route], list))
    await eventually(lambda: bulkhead.waiting == 1)
    call.started -= 10  # the time passes while the attempt waits
    bulkhead.release()
    await waiting
    assert [each.total for each in up.deadlines] == [MIN_TIME_LEFT_S]
    assert call.attempts[0].queue_s > 0


class AheadClock:
    """The monotonic clock, set ahead by `ahead` seconds."""

    ahead = 0.0

    def monotonic(self) -> float:
        """Return the time of this clock."""
        return time.monotonic() + self.ahead


@pytest.mark.parametrize(("silent_s", "failures"), [(1.0, 0), (5.0, 1)])
async def test_own_deadline_of_a_caller_counts_only_after_a_long_silence(
    monkeypatch: pytest.MonkeyPatch, silent_s: float, failures: int
) -> None:
    clock = AheadClock()
    monkeypatch.setattr("gateway.attempts.admission.time", clock)

    class Silent(ScriptedTransport):
        async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
            clock.ahead = silent_s
            raise UpstreamError("timeout", "no answer")

    registry, call, route = TargetRegistry(), call_with(), candidate_over(Silent())
    call.deadline = 60.0  # of the 600 s of the target
    health = registry.health_of(route.backend.target)
    health.silence.record(0.01, stream=False)
    with pytest.raises(GatewayError):
        await failover_over(registry).run(call, Recorder().caller(), [route], list)
    assert health.failures == failures

"""Several credentials of one target: which one a call uses, and when the next target is tried."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec import structs

from gateway.attempts.retry_budget import RetryBudget
from gateway.config.provider import ProviderConfig
from gateway.targets.candidate import Candidate
from gateway.targets.cooldown import fingerprint
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin
from providers.base import Failure, WireRequest
from tests.flows.live import eventually
from tests.support.attempts import call_with, target_named
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, completion, failover_over

SLOW_DOWN = Failure("rate_limit", "slow down", 429, retry_after=60.0)


class KeyedTransport(ScriptedTransport):
    """Answers every request, or refuses those with a credential in `refused` with its status. `used` are the credentials, in order."""

    def __init__(self, **refused: int) -> None:
        super().__init__()
        self.refused = refused
        self.used: list[str] = []

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Answer by the credential."""
        request.written = True
        credential = dict(request.headers)["authorization"].removeprefix("Bearer ")
        self.used.append(credential)
        status = self.refused.get(credential, 200)
        error = json.dumps({"error": {"message": "refused", "code": None}}).encode()
        return ScriptedResponse([completion() if status == 200 else error], status=status)


def with_credentials(candidate: Candidate, *credentials: str) -> Candidate:
    """Return the candidate with these credentials."""
    backend = candidate.backend
    targets = tuple(target_named(backend.target.name, credential=credential) for credential in credentials)
    return structs.replace(candidate, backend=structs.replace(backend, targets=targets))


@pytest.mark.parametrize("credentials", [("k1", "k2"), ("k1", "k2", "k3", "k4")])
async def test_if_every_credential_gets_403_the_next_target_answers(credentials: tuple[str, ...]) -> None:
    down = KeyedTransport(**dict.fromkeys(credentials, 403))
    other = candidate_over(ScriptedTransport(ScriptedResponse([completion()])), "b/y", attempts=5)
    route = [with_credentials(candidate_over(down, attempts=5), *credentials), other]
    call, recorder = call_with(), Recorder()
    await failover_over(TargetRegistry()).run(call, recorder.caller(), route, list)
    assert sorted(down.used) == sorted(credentials)
    assert recorder.headers[b"x-gateway-target"] == b"b/y"


async def test_calls_in_the_queue_of_a_target_use_the_credential_that_is_not_in_cooldown() -> None:
    registry = TargetRegistry()
    registry.configure({"a": ProviderConfig(name="a", max_concurrent=1, max_queue=100)})
    up = KeyedTransport(k1=429)
    route = with_credentials(candidate_over(up), "k1", "k2")
    health, failover = registry.health_of(route.backend.target), failover_over(registry)
    budget = failover._budget = RetryBudget(share=0.0, floor=0.0, clock=lambda: 0.0)
    assert health.bulkhead is not None
    health.bulkhead.enter()
    calls, recorders = [call_with() for _ in range(8)], [Recorder() for _ in range(8)]
    pairs = zip(calls, recorders, strict=True)
    tasks = [asyncio.create_task(failover.run(call, recorder.caller(), [route], list)) for call, recorder in pairs]
    await eventually(lambda: health.waiting == 8)
    health.record_failure(route.backend.targets[0], SLOW_DOWN)
    health.bulkhead.release()
    await asyncio.gather(*tasks)
    assert [recorder.status for recorder in recorders] == [200] * 8
    assert up.used == ["k2"] * 8
    assert {call.attempts[0].target.credential for call in calls} == {"k2"}
    assert not budget.take()


async def test_a_target_whose_credentials_are_all_in_cooldown_in_other_processes_gets_no_call() -> None:
    registry, up = TargetRegistry(), KeyedTransport()
    registry.configure({"a": ProviderConfig(name="a")})
    route = with_credentials(candidate_over(up), "k1", "k2")
    for target in route.backend.targets:
        registry.apply_remote("a/x", fingerprint(target), 60.0, "rate_limit")
    recorder = Recorder()
    other = candidate_over(ScriptedTransport(ScriptedResponse([completion()])), "b/y")
    await failover_over(registry).run(call_with(), recorder.caller(), [route, other], list)
    assert (recorder.headers[b"x-gateway-target"], up.used) == (b"b/y", [])
    assert registry.health_of(route.backend.target).state == "cooling"

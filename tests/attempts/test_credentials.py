"""Several credentials of one target: which one a call uses, and when the next target is tried."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec import structs

from gateway.attempts.retry_budget import RetryBudget
from gateway.config.provider import ProviderConfig
from gateway.targets.candidate import Candidate
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
    route = [with_credentials(candidate_over(down, attempts=5), *credentials), candidate_over(ScriptedTransport(ScriptedResponse([completion()])), "b/y", attempts=5)]
    call, recorder = call_with(), Recorder()
    await failover_over(TargetRegistry()).run(call, recorder.caller(), route, list)
    assert sorted(down.used) == sorted(credentials)
    assert recorder.headers[b"x-gateway-target"] == b"b/y"

"""The retry budget: a token that was taken for a request is returned if that request is not sent."""

from __future__ import annotations

import asyncio

import pytest

from gateway.attempts.failover import Failover
from gateway.attempts.retry_budget import RetryBudget
from gateway.errors import GatewayError
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest
from tests.flows.live import eventually
from tests.support.attempts import call_with
from tests.support.scripted import Recorder, ScriptedResponse, ScriptedTransport, candidate_over, completion, failover_over

IMAGE = b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}'


class FullTransport(ScriptedTransport):
    """A transport whose connections are all in use, so that nothing is sent."""

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Refuse the request."""
        raise UpstreamError("overloaded", "no connection became free")


def failover_with(tokens: float) -> tuple[Failover, RetryBudget]:
    """Return a failover whose retry budget has this number of tokens and earns none."""
    failover = failover_over(TargetRegistry())
    budget = failover._budget = RetryBudget(share=0.0, floor=tokens, clock=lambda: 0.0)
    return failover, budget


async def test_token_is_kept_for_the_next_target_if_the_rules_of_one_target_refuse_the_call() -> None:
    failover, budget = failover_with(1.0)
    call, up = call_with(IMAGE), ScriptedTransport(UpstreamError("dns", "unknown"), ScriptedResponse([completion()]))
    route = [candidate_over(up), candidate_over(up, "b/y", "goodfire"), candidate_over(up, "c/z")]
    recorder = Recorder()
    await failover.run(call, recorder.caller(), route, list)
    assert (recorder.status, recorder.headers[b"x-gateway-target"]) == (200, b"c/z")
    assert (budget.take(), budget.take()) == (True, False)


async def test_token_is_returned_if_no_target_accepts_the_request() -> None:
    failover, budget = failover_with(1.0)
    call, up = call_with(IMAGE), ScriptedTransport(UpstreamError("dns", "unknown"))
    with pytest.raises(GatewayError):
        await failover.run(call, Recorder().caller(), [candidate_over(up), candidate_over(up, "b/y", "goodfire")], list)
    assert (budget.take(), budget.take()) == (True, False)


async def test_token_is_returned_if_the_caller_disconnects_during_the_wait_for_the_retry() -> None:
    failover, budget = failover_with(1.0)
    failover._draw = lambda: 1.0
    call, up = call_with(), ScriptedTransport(UpstreamError("connect", "refused"))
    run = asyncio.create_task(failover.run(call, Recorder().caller(), [candidate_over(up, retries=1)], list))
    await eventually(lambda: budget._tokens == 0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (budget.take(), budget.take()) == (True, False)


async def test_request_for_which_no_connection_becomes_free_is_not_charged() -> None:
    failover, budget = failover_with(1.0)
    call, up, full = call_with(), ScriptedTransport(UpstreamError("dns", "unknown"), ScriptedResponse([completion()])), FullTransport()
    ways = [(full, "a/x"), (up, "b/y"), (full, "c/z"), (up, "d/w")]
    route = [candidate_over(way, name, attempts=2) for way, name in ways]
    recorder = Recorder()
    await failover.run(call, recorder.caller(), route, list)
    assert (recorder.status, recorder.headers[b"x-gateway-target"]) == (200, b"d/w")
    assert (budget.take(), budget.take()) == (True, False)

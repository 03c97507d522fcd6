"""What is charged for calls whose caller left: nothing, the prompt, or the whole answer, by what their provider bills."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.ledger.conftest import ENVIRON, call, usage, yaml


async def leave(client: httpx.AsyncClient, gateway: Live, up: FaultUpstream, *, stream: bool) -> None:
    """A caller who goes once the upstream has the call (and, of a stream, something was said)."""
    if not stream:
        asking = asyncio.create_task(call(client, gateway))
        await up.wait_for(lambda up: len(up.requests) == 1)
        await asyncio.sleep(0.15)  # for the gateway to listen to its caller
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    else:
        body = {"model": "m", "messages": [{"role": "user", "content": "one two"}], "stream": True}
        async with client.stream("POST", gateway.base_url + "/chat/completions", json=body) as answer:
            async for piece in answer.aiter_bytes():
                if b"w0" in piece:
                    break
    await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)


@pytest.mark.parametrize(("bills", "prompt"), [(False, 0), (True, 2)])
async def test_a_prompt_without_an_answer_is_charged_where_the_provider_bills_it(
    up: FaultUpstream, client: httpx.AsyncClient, bills: bool, prompt: int
) -> None:
    config = yaml(up).replace("up/mock", "up/silent").replace("prices: ", f"bills_aborted_prompt: {str(bills).lower()}, prices: ")
    async with live(config.replace("{ mock:", "{ silent:"), environ=ENVIRON) as gateway:
        await leave(client, gateway, up, stream=False)
        found = (await usage(client, gateway))["total"]
    assert found["requests"] == 1
    assert found["output_tokens"] == 0
    assert (found["prompt_tokens"] > 0) is bills
    assert found["cost_nanodollars"] == found["prompt_tokens"] * 10_000
    assert found["estimated"] == int(bills)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_bills_whole_answers_is_read_to_the_end(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.chunks, up.delay = 30, 0.02
    async with live(yaml(up).replace("prices: ", "drain: true, prices: "), environ=ENVIRON) as gateway:
        await leave(client, gateway, up, stream=stream)
        found = (await usage(client, gateway))["total"]
        (record,) = await gateway.records(1)
    assert up.requests[0].finished
    assert record["status"] == 499
    assert (found["requests"], found["prompt_tokens"], found["output_tokens"], found["estimated"]) == (1, 2, 30, 0)


async def test_others_are_closed_at_once_and_charged_what_came(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 2000, 0.01
    async with live(yaml(up), environ=ENVIRON) as gateway:
        await leave(client, gateway, up, stream=True)
        found = (await usage(client, gateway))["total"]
    assert not up.requests[0].finished
    assert 0 < found["output_tokens"] <= up.requests[0].tokens < 2000
    assert found["estimated"] == 1

"""`lockgate calls ID` states why the gateway did not send a call, and never what an upstream quotes of a prompt."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.faults.behaviours import status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, held, post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.test_calls_flow import asked

SECRET = "the secret plan"


def configuration(up: FaultUpstream) -> str:
    """Return a configuration with targets that refuse calls, and a route of two targets."""
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}"'
    return f"""
providers:
  one: {provider} }}
  two: {provider} }}
  small: {provider}, max_concurrent: 1, max_queue: 0 }}
  few: {provider}, limits: {{ requests: 1/h }} }}
models:
  both: {{ targets: [one/a, two/a], retries: 0 }}
  single: {{ targets: one/limited, retries: 0 }}
  small: small/held
  few: few/b
"""


async def explained(gateway: Live, capsys: pytest.CaptureFixture[str], answer: httpx.Response) -> str:
    """Return the output of `lockgate calls ID`, once the call is recorded."""
    id = answer.headers["x-request-id"]
    await eventually(lambda: any(record["id"] == id for record in gateway.lines()))
    return await asked(gateway, capsys, id)


async def test_a_full_queue_a_limit_of_a_target_and_a_cooldown_are_stated(
    up: FaultUpstream, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    released = asyncio.Event()
    up.on(lambda request: request.model == "held", held(released))
    up.on(lambda request: request.model == "limited", status(429, SECRET, {"retry-after": "300"}, code="rate_limit_exceeded"))
    async with live(configuration(up), environ={"UP_KEY": CREDENTIAL}) as gateway:
        waiting = asyncio.create_task(post_chat(client, gateway, "small"))
        await eventually(lambda: len(up.requests) == 1)
        full = await explained(gateway, capsys, await post_chat(client, gateway, "small"))
        released.set()
        await waiting
        await post_chat(client, gateway, "few")
        limited = await explained(gateway, capsys, await post_chat(client, gateway, "few"))
        gateway.gateway.health.clock = lambda: 1_000.0
        await post_chat(client, gateway, "single", text=SECRET)
        probe = await explained(gateway, capsys, await post_chat(client, gateway, "single", text=SECRET))
        cooling = await explained(gateway, capsys, await post_chat(client, gateway, "single", text=SECRET))
    assert "overloaded: small/held: the limit on concurrent calls is reached" in full
    assert "small/held: overloaded, not sent" in full
    assert "rate_limit_exceeded: few/b: the gateway's own limit of 1 request per h is used up" in limited
    assert "few/b: limit, not sent" in limited
    assert "one/limited: 429, response began" in probe
    assert "rate_limit_exceeded: one/limited: in cooldown for 300 s (rate_limit); no further probe is sent now" in cooling
    assert SECRET not in probe + cooling


async def test_the_message_of_an_upstream_is_not_logged_if_all_targets_are_unavailable(
    up: FaultUpstream, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may quote the prompt. The caller gets it."""
    up.on(lambda request: request.model == "a", status(500, f"cannot answer '{SECRET}'"))
    async with live(configuration(up), environ={"UP_KEY": CREDENTIAL}) as gateway:
        answers = [await post_chat(client, gateway, "both", text=SECRET) for _ in range(7)]
        last = await explained(gateway, capsys, answers[-1])
        log = str(gateway.lines())
    assert "All targets of model 'both' are unavailable. Last error, from " in answers[-1].text
    assert SECRET in answers[-1].text
    assert "All targets of model 'both' are unavailable." in last
    assert SECRET not in last + log

"""A choice that a call makes, such as that of a split or of a credential, is made once, whichever way serves the call."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from tests.fast.conftest import StartPair
from tests.faults.client import ask, chat
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live

pytestmark = pytest.mark.usefixtures("steps")

CALLS = 60


def targets_of(records: list[dict[str, Any]]) -> list[str]:
    """Return the target that answered each call."""
    return [record["target"] for record in records]


async def send(gateway: Live, **fields: Any) -> list[dict[str, Any]]:
    """Make CALLS calls, with the same random numbers for each gateway, and return their records."""
    gateway.gateway.generation.router._draw = random.Random(7).random
    for _ in range(CALLS):
        assert (await ask(gateway.port, chat(**fields))).status == 200
    return await gateway.records(CALLS)


async def test_a_split_between_targets_that_only_the_pipeline_serves_and_others_keeps_its_weights(
    start_pair: StartPair, up: FaultUpstream, entered: list[FastCall]
) -> None:
    pair = await start_pair(f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
  vllm: {{ type: vllm, base_url: "{up.base_url}" }}
models:
  m: {{ targets: {{ up/mock: 50, continued: 50 }} }}
  continued: {{ targets: vllm/mock, continue_on_cut: true }}
""")
    fast, slow = [targets_of(await send(gateway)) for gateway in pair.both]
    assert fast == slow
    assert len(entered) == fast.count("up/mock")


@pytest.mark.parametrize("fields", [{"n": 2}, {}], ids=["two requests", "one request"])
async def test_credentials_take_turns(start_pair: StartPair, up: FaultUpstream, fields: dict[str, Any]) -> None:
    pair = await start_pair(
        f"""
providers:
  up: {{ type: deepseek, base_url: "{up.base_url}", api_key: ["${{ONE}}", "${{TWO}}"] }}
models:
  m: up/mock
""",
        environ={"ONE": "sk-one", "TWO": "sk-two"},
    )
    used = []
    for gateway in pair.both:
        before = len(up.requests)
        await send(gateway, **fields)
        used.append([request.header("authorization") for request in up.requests[before:]])
    assert used[0] == used[1]
    assert len(set(used[0])) == 2

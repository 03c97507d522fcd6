"""`balance: prefix` over four simulated engines, compared with `session` and with Dynamo's KV router on the same calls.

The assertions compare the numbers of prompt tokens that the engines compute, because the times also depend on the speed of
the machine. tests/routing/test_prefix_table.py asserts the times of simulated servers.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.engines.dynamo import MODEL, Dynamo, make_model
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]
ENGINES, OPENINGS, CALLS, CALLS_PER_S = 4, 16, 150, 8.0
OPTIONS = ("--num-gpu-blocks-override", "900", "--speedup-ratio", "0.2", "--max-num-batched-tokens", "2048")
"""The cache of an engine has 14,400 tokens, a third of all openings."""


class Arrival(NamedTuple):
    """One call: the time of its start in seconds, the number of its opening, and its messages."""

    at: float
    opening: int
    messages: list[dict[str, str]]


def trace(salt: str) -> list[Arrival]:
    """Return calls with shared openings, the first of which are much more frequent than the last. `salt` changes only the texts."""
    draw = random.Random(5)
    openings = [salt + draw.randbytes(draw.randint(1000, 1500)).hex() for _ in range(OPENINGS)]  # a byte is a token
    now, arrivals = 0.0, []
    for _ in range(CALLS):
        now += draw.expovariate(CALLS_PER_S)
        opening = min(int(draw.paretovariate(0.6)) - 1, OPENINGS - 1)
        messages = [{"role": "system", "content": openings[opening]}, {"role": "user", "content": draw.randbytes(20).hex()}]
        arrivals.append(Arrival(now, opening, messages))
    return arrivals


class Outcome(NamedTuple):
    """The figures of one call: seconds to the first token, and tokens of the prompt that were computed."""

    first_token: float
    computed: int


async def send(url: str, arrivals: list[Arrival], model: str) -> list[Outcome]:
    """Send the calls at their times, as streams. Return the figures of each."""
    async with httpx.AsyncClient(trust_env=False, timeout=120, limits=httpx.Limits(max_connections=CALLS)) as client:
        start = time.monotonic()

        async def call(arrival: Arrival) -> Outcome:
            await asyncio.sleep(max(0.0, start + arrival.at - time.monotonic()))
            body: dict[str, object] = {"model": model, "messages": arrival.messages, "max_tokens": 2, "stream": True}
            body["stream_options"] = {"include_usage": True}
            began, first = time.monotonic(), 0.0
            headers = {"x-opening": str(arrival.opening)}
            async with client.stream("POST", url + "/chat/completions", json=body, headers=headers) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for line in answer.aiter_lines():
                    if '"content"' in line:
                        first = first or time.monotonic() - began
                    if '"usage":{' in line:
                        usage = json.loads(line.removeprefix("data: "))["usage"]
                        return Outcome(first, usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])
            raise AssertionError("a stream ended without its usage")

        return await asyncio.gather(*map(call, arrivals))


def config(engines: list[Dynamo]) -> str:
    """Return the configuration of a gateway that balances over engines in three ways, or sends all calls to a single one."""
    providers = "".join(f'  e{number}: {{ type: vllm, base_url: "{engine.base_url}" }}\n' for number, engine in enumerate(engines))
    if len(engines) == 1:
        return f"providers:\n{providers}models:\n  dynamo: e0/{MODEL}\n"
    targets = "{ " + ", ".join(f"e{number}/{MODEL}: 1" for number in range(len(engines))) + " }"
    return (
        f"providers:\n{providers}models:\n"
        f"  session: {{ targets: {targets}, balance: session }}\n"
        f"  session-by-header: {{ targets: {targets}, balance: session, session_header: x-opening }}\n"
        f"  prefix: {{ targets: {targets}, balance: prefix }}\n"
    )


async def measured(gateway: Callable[..., RunningGateway], engines: list[Dynamo], models: tuple[str, ...]) -> dict[str, list[Outcome]]:
    """Return the outcomes of the calls for each model of a gateway in front of engines."""
    for engine in engines:
        await asyncio.to_thread(engine.wait_ready)
    running = await asyncio.to_thread(gateway, config(engines))
    await asyncio.to_thread(running.wait_ready)
    return {model: await send(running.base_url, trace(model), model) for model in models}


async def test_with_prefix_balance_engines_compute_at_least_a_fifth_fewer_prompt_tokens_than_with_sessions(
    gateway: Callable[..., RunningGateway], figure: Figure, tmp_path: Path
) -> None:
    model, outcomes = make_model(tmp_path), dict[str, list[Outcome]]()
    for deployments, workers, router, balances in (
        (ENGINES, 1, "random", ("session", "session-by-header", "prefix")),
        (1, ENGINES, "kv", ("dynamo",)),
    ):
        engines = [
            Dynamo(tmp_path / f"{router}-{number}", model, workers=workers, router=router, options=OPTIONS) for number in range(deployments)
        ]
        try:
            outcomes |= await measured(gateway, engines, balances)
        finally:
            for engine in engines:
                engine.stop()
    computed = {name: sum(each.computed for each in sent) for name, sent in outcomes.items()}
    for name, sent in outcomes.items():
        figure(f"prompt tokens computed, {name}", computed[name], f"in {len(sent)} calls")
        figure(f"mean time to first token, {name}", sum(each.first_token for each in sent) / len(sent) * 1000, "ms")
    assert computed["prefix"] <= 0.8 * computed["session"], computed

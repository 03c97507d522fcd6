"""Dynamo behind the gateway: usage, cached tokens and limits of calls, and a worker killed under streams."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.dynamo import MODEL, Dynamo, make_model
from tests.flows.live import eventually
from tests.flows.operator import bearer, digest
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]
TOKEN, LIMITED = "lg-dynamo-key-0123456789", "lg-limited-key-0123456789"
STREAMS, TOKENS_PER_STREAM = 500, 30
OPENING = "You answer questions about the register of ships. " * 20


@pytest.fixture
def dynamo(tmp_path: Path) -> Iterator[Dynamo]:
    """Return Dynamo with its KV router and two workers."""
    running = Dynamo(tmp_path / "dynamo", make_model(tmp_path), workers=2, options=("--num-gpu-blocks-override", "16384"))
    try:
        running.wait_ready()
        yield running
    finally:
        running.stop()


def calls_of(gateway: RunningGateway) -> list[dict[str, Any]]:
    """Return the log records of the calls so far."""
    return [record for record in gateway.records() if record.get("model") == "m"]


def config(dynamo: Dynamo) -> str:
    """Return the configuration of a gateway in front of Dynamo."""
    return f"""
providers:
  dynamo: {{ type: vllm, base_url: "{dynamo.base_url}", max_connections: 1000 }}
models:
  m: {{ targets: dynamo/{MODEL}, timeout: 2m }}
keys:
  app: {{ hash: "{digest(TOKEN)}" }}
  limited: {{ hash: "{digest(LIMITED)}", limits: {{ tokens: 3000/h }} }}
"""


def body(text: str, tokens: int = 4, *, stream: bool = False) -> dict[str, object]:
    """Return a chat with a long beginning that all calls share."""
    messages = [{"role": "system", "content": OPENING}, {"role": "user", "content": text}]
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    return {"model": "m", "messages": messages, "max_tokens": tokens, "stream": stream, **usage}


async def test_usage_and_limits_are_those_of_dynamo_and_a_killed_worker_ends_no_stream_cleanly_before_its_end(
    dynamo: Dynamo, gateway: Callable[..., RunningGateway], figure: Figure
) -> None:
    running = await asyncio.to_thread(gateway, config(dynamo))
    await asyncio.to_thread(running.wait_ready)
    url = running.base_url + "/chat/completions"
    limits = httpx.Limits(max_connections=STREAMS + 10)
    async with httpx.AsyncClient(trust_env=False, timeout=150, limits=limits) as client:
        first = (await client.post(url, json=body("first"), headers=bearer(TOKEN))).json()["usage"]
        later = (await client.post(url, json=body("later"), headers=bearer(TOKEN))).json()["usage"]
        assert first["prompt_tokens"] > 1000
        assert (first["completion_tokens"], later["completion_tokens"]) == (4, 4)
        assert later["prompt_tokens_details"]["cached_tokens"] > 800  # Dynamo's router found the shared beginning
        figure("cached tokens of the second call", later["prompt_tokens_details"]["cached_tokens"], f"of {later['prompt_tokens']}")
        codes = [(await client.post(url, json=body(str(number)), headers=bearer(LIMITED))).status_code for number in range(5)]
        assert codes == [200, 200, 200, 429, 429]  # the limit counts the tokens that Dynamo reports
        outcomes, usages = Counter[str](), Counter[int]()
        begun = asyncio.Event()

        async def stream(number: int) -> None:
            chunks, ended, usage = 0, False, None
            try:
                async with client.stream(
                    "POST", url, json=body(f"stream {number}", TOKENS_PER_STREAM, stream=True), headers=bearer(TOKEN)
                ) as answer:
                    if answer.status_code != 200:
                        outcomes[f"HTTP {answer.status_code}"] += 1
                        return
                    async for line in answer.aiter_lines():
                        event = line.removeprefix("data: ")
                        ended = ended or event == "[DONE]"
                        if event.startswith("{"):
                            chunk = json.loads(event)
                            usage = chunk.get("usage") or usage
                            if "error" in chunk:
                                outcomes["error event"] += 1
                                return
                            chunks += bool(chunk["choices"] and chunk["choices"][0]["delta"].get("content"))
                            if chunks:
                                begun.set()
            except httpx.HTTPError:
                outcomes["broken"] += 1
                return
            if ended and usage is not None:
                usages[usage["completion_tokens"]] += 1
                outcomes["complete" if chunks else "empty"] += 1
            else:
                outcomes["cut"] += 1

        tasks = [asyncio.create_task(stream(number)) for number in range(STREAMS)]
        await asyncio.wait_for(begun.wait(), 120)
        dynamo.workers[0].kill()
        await asyncio.gather(*tasks)
    for outcome, number in sorted(outcomes.items()):
        figure(f"streams with the outcome '{outcome}'", number, f"of {STREAMS}, one of two workers killed")
    assert outcomes.total() == STREAMS
    assert outcomes["cut"] == outcomes["empty"] == 0, outcomes
    assert outcomes["complete"] >= STREAMS // 4
    assert set(usages) == {TOKENS_PER_STREAM}
    answered = outcomes["complete"] + 4
    await eventually(lambda: sum(record.get("status") == 200 for record in calls_of(running)) >= answered)  # the log is written later

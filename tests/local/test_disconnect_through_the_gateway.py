"""A caller that disconnects while the local engine answers is charged for the tokens generated so far."""

from __future__ import annotations

import asyncio

import httpx

from tests.flows.live import eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

YAML = "journal: off\nproviders:\n  local: {slots: 1}\nmodels:\n  local: local/smollm2-135m-instruct\n"
LONG = {"model": "local", "messages": [{"role": "user", "content": "Tell me a very long story."}], "max_tokens": 1500, "ignore_eos": True}


async def test_disconnected_caller_is_charged_for_the_tokens_generated(bundled_model: object) -> None:
    async with live(YAML) as gate, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client:
        engine = gate.gateway.generation.engines["local"]
        await eventually(lambda: engine.state == "ready", 60)
        tries = 0
        for patience in (1.0, 2.0, 4.0, 8.0):  # wait for the first tokens
            tries += 1
            asking = asyncio.create_task(client.post(gate.base_url + "/chat/completions", json=LONG))
            await asyncio.sleep(patience)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await eventually(lambda: gate.gateway.metrics.in_flight == 0)
            result = (await client.get(gate.admin_url + "/admin/usage")).json()["total"]
            if result["output_tokens"]:
                break
    assert 0 < result["output_tokens"] < 1500
    assert result["prompt_tokens"] > 0
    assert result["estimated"] == tries  # the prompt of a call without tokens is charged as well

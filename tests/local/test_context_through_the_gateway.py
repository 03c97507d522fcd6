"""Conversations longer than the local engine's context: it counts their tokens, and answers the part that is left."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.flows.live import eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = pytest.mark.timeout(120)

YAML = """
providers: { local: { context: 256, slots: 2 } }
models:
  m: local/smollm2-135m-instruct
  cut: { targets: local/smollm2-135m-instruct, context: { overflow: truncate, policy: middle-out } }
"""
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
QUESTION = {"role": "user", "content": "What is the capital of France?"}


def conversation(turns: int) -> list[dict[str, Any]]:
    """Return messages of about sixty tokens each between a system message and a question."""
    messages = [SYSTEM]
    for index in range(turns):
        messages += [
            {"role": "user", "content": f"Please remember the number {index}. " + "It matters a lot. " * 3},
            {"role": "assistant", "content": f"I will remember the number {index}. " + "It matters a lot. " * 3},
        ]
    return [*messages, QUESTION]


@pytest.mark.parametrize("each_way", [False, pytest.param(True, marks=pytest.mark.prove)], ids=["limited", "each way"])
async def test_a_ten_thousand_token_conversation_is_answered(bundled_model: object, each_way: bool) -> None:
    messages = conversation(170)
    headers = {"x-gateway-receipt": "body"}
    async with live(YAML) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client:
        await eventually(lambda: gateway.gateway.generation.engines["local"].state == "ready", 60)
        url = gateway.base_url + "/chat/completions"

        async def ask(model: str = "m", **more: Any) -> httpx.Response:
            return await client.post(url, json={"model": model, "messages": messages, "max_tokens": 30, **more}, headers=headers)

        refused = await ask()
        error = await ask(context_length_exceeded_behavior="error")
        limited = await ask(prompt_truncate_len=120)
        cut = [await ask(context_length_exceeded_behavior="truncate"), await ask("cut")] if each_way else []
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is 256 tokens" in error.json()["error"]["message"]
    for answer in (limited, *cut):
        assert answer.status_code == 200, answer.text
        result = answer.json()
        context = result["gateway"]["context"]
        assert context["before"] > 10_000
        assert (context["counted"], context["tokenizer"], context["window"]) == ("exact", "engine", 256)
        assert context["after"] == result["usage"]["prompt_tokens"] <= 226  # the count equals what the engine read
        assert result["usage"]["completion_tokens"] > 0
        assert result["choices"][0]["message"]["content"]
        assert not {0, len(messages) - 1} & set(context["evicted"])
    assert limited.json()["gateway"]["context"]["after"] <= 120
    assert [answer.json()["gateway"]["context"]["evicted"][0] > 1 for answer in cut] == [False, True][: len(cut)]

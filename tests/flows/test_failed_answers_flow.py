"""Answers and streams that report a failure and a usage: the usage is billed, because the vendor bills it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import canned, chat_chunk, sse
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.live import live
from tests.ledger.conftest import ENVIRON, usage

USED = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}
BOTH = {"input_tokens": 100, "output_tokens": 40}
MALFORMED = "function_call_filter: MALFORMED_FUNCTION_CALL"
ERROR = {"code": 502, "message": "the model failed"}
HEAD = {"id": "x", "created": 1, "model": "m"}


def choice(finish: str, **more: Any) -> dict[str, Any]:
    """Return the only choice of an answer."""
    return {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": finish, **more}


def answer(**more: Any) -> dict[str, Any]:
    """Return an answer of 140 tokens."""
    return {**HEAD, "object": "chat.completion", "choices": [choice("stop")], "usage": USED, **more}


def last_chunk(finish: str, **more: Any) -> dict[str, Any]:
    """Return the last chunk of a stream of 140 tokens."""
    ending = {"index": 0, "delta": {"role": "assistant"}, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [ending], "usage": USED, **more}


COHERE = {"id": "c", "finish_reason": "ERROR", "message": {"role": "assistant", "content": [{"type": "text", "text": "x"}]}}
MESSAGE = {"type": "error", "error": {"type": "api_error", "message": "failed"}}
ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("gemini", answer(choices=[choice(MALFORMED)])),
    ("openai-compatible", answer(choices=None)),
    ("openrouter", answer(choices=[choice("error", error=ERROR)])),
    ("openrouter", answer(error=ERROR)),
    ("cohere", {**COHERE, "usage": {"tokens": BOTH, "billed_units": BOTH}}),
    ("anthropic", {**MESSAGE, "usage": BOTH}),
]
STREAMS: list[tuple[str, list[dict[str, Any]]]] = [
    ("gemini", [last_chunk(MALFORMED)]),
    ("openrouter", [last_chunk("error", error=ERROR)]),
    ("openrouter", [chat_chunk("a"), last_chunk("error", error=ERROR)]),
    ("openai", [{**last_chunk("stop"), "choices": []}, {"error": ERROR}]),
]


def config(up: FaultUpstream, kind: str) -> str:
    """Return a configuration with a target that fails and one that answers."""
    prices = 'prices: { "*": { prompt: 10, output: 100 } }'
    return f"""
journal: off
providers:
  a: {{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", {prices} }}
  b: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", {prices} }}
models:
  m: {{ targets: [a/x, b/y], attempts: 1 }}
  f: {{ targets: [a/x, b/y], attempts: 2 }}
"""


async def bill(client: httpx.AsyncClient, up: FaultUpstream, kind: str, script: Any, **more: Any) -> dict[str, Any]:
    """Make a call for each model and return the total usage. Check that log and ledger agree."""
    up.on(lambda request: request.model == "x", script)
    async with live(config(up, kind), environ=ENVIRON) as gateway:
        for model in ("m", "f"):
            body = {"model": model, "messages": [{"role": "user", "content": "q"}], "max_tokens": 50, **more}
            await client.post(gateway.base_url + "/chat/completions", json=body)
        total = (await usage(client, gateway))["total"]
        records = await gateway.records(2)
    assert round(sum(record["cost_usd"] for record in records) * 10**9) == total["cost_nanodollars"]
    return dict(total)


@pytest.mark.parametrize(("kind", "failed"), ANSWERS)
async def test_the_usage_of_a_failed_answer_is_billed(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, failed: dict[str, Any]
) -> None:
    total = await bill(client, up, kind, canned(json.dumps(failed).encode()))
    answered = up.requests[-1].tokens
    assert (total["prompt_tokens"], total["output_tokens"], total["estimated"]) == (201, 80 + answered, 0)


@pytest.mark.parametrize(("kind", "events"), STREAMS)
async def test_the_usage_of_a_failed_stream_is_billed_once(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, events: list[dict[str, Any]]
) -> None:
    async def script(exchange: Exchange) -> None:
        await sse(*events, b"[DONE]")(exchange)

    total = await bill(client, up, kind, script, stream=True)
    answered = sum(request.tokens for request in up.requests if request.model == "y")
    assert (total["prompt_tokens"] - (1 if answered else 0), total["output_tokens"], total["estimated"]) == (200, 80 + answered, 0)

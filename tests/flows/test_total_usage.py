"""An upstream that reports only `total_tokens`: the caller gets the parts as well, which are estimated."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.flows.conftest import RECEIPT, post_as, post_chat, serving
from tests.support.apis import ALL_WAYS, Api

TOTAL = {"usage": {"total_tokens": 20}}
ANSWER: dict[str, Any] = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "mock",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}], **TOTAL,
}  # fmt: skip
NOTE = {
    "param": "usage", "action": "warn",
    "why": "the upstream reported only the total; the tokens of the prompt and the output are estimated",
}  # fmt: skip
EACH_WAY = pytest.mark.parametrize(("api", "stream"), ALL_WAYS, ids=[f"{api.name}-{stream}" for api, stream in ALL_WAYS])


async def total_alone(exchange: Exchange) -> None:
    """Answer with a total, as JSON or in the last chunk of a stream."""
    usage = {**chat_chunk(), "choices": [], **TOTAL}
    stream = sse(chat_chunk("one two", role="assistant"), chat_chunk(finish="stop"), usage, b"[DONE]")
    await (stream if exchange.request.json.get("stream") else canned(json.dumps(ANSWER).encode()))(exchange)


@EACH_WAY
async def test_the_parts_of_a_total_are_shown_as_they_are_billed(
    up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool
) -> None:
    up.on("/v1/chat/completions", total_alone)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
    async with serving(up) as gateway:
        told = api.read(await post_as(api, client, gateway, headers=RECEIPT, stream=stream, **more))
        (record,) = await gateway.records(1)
    assert told.tokens is not None
    assert told.tokens.prompt > 0
    assert told.tokens.prompt + told.tokens.output == 20
    assert (record["prompt_tokens"], record["output_tokens"]) == told.tokens[:2]
    assert told.receipt is not None
    assert told.receipt["usage_source"] == "estimated"
    assert NOTE in told.receipt["adjustments"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_total_is_kept_without_a_receipt(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", total_alone)
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, **more)
    last = answer.text.split("\n\n")[-3].removeprefix("data: ") if stream else answer.text
    usage = json.loads(last)["usage"]
    assert (usage["prompt_tokens"] + usage["completion_tokens"], usage["total_tokens"]) == (20, 20)


async def test_a_total_of_embeddings_is_that_of_the_inputs(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    answer = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "mock", **TOTAL}
    up.on("/v1/embeddings", canned(json.dumps(answer).encode()))
    async with serving(up) as gateway:
        got = await client.post(gateway.base_url + "/embeddings", json={"model": "m", "input": "a"})
    assert got.json()["usage"] == {"prompt_tokens": 20, "total_tokens": 20}

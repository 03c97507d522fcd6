"""Several choices where a provider gives one: several upstream calls, one answer."""

from __future__ import annotations

import json

import httpx

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.conftest import chat, events, serving


async def test_several_choices_are_one_stream_whichever_begins_first(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    words = sse(chat_chunk("one "), chat_chunk("two "), chat_chunk(finish="stop"), b"[DONE]")

    async def late(exchange: Exchange) -> None:
        await exchange.sleep(0.5)
        await words(exchange)

    up.on("/v1/chat/completions", words)
    up.once(late)
    async with serving(up, kind="groq") as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(n=2, stream=True))
        assert gateway.count("lockgate_internal_errors") == 0
    assert len(up.requests) == 2
    assert answer.status_code == 200
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    said = ["", ""]
    for choice in [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]:
        said[choice["index"]] += choice["delta"].get("content") or ""
    assert said == ["one two ", "one two "]

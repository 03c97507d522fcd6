"""A request of many tiny parts is refused before its parts are read, so that it does not delay other calls."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.dialects.messages import MAX_MESSAGES
from gateway.http.json_depth import MAX_CONTAINERS
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import serving

HI = {"role": "user", "content": "hi"}
MANY = MAX_CONTAINERS + 1
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a"}] * MANY}]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat parts": ("/v1/chat/completions", {"messages": PARTS}),
    "chat fields": ("/v1/chat/completions", {"messages": [HI], **{f"k{at}": 1 for at in range(2000)}}),
    "messages blocks": ("/v1/messages", {"max_tokens": 5, "messages": PARTS}),
    "messages turns": ("/v1/messages", {"max_tokens": 5, "messages": [HI] * (MAX_MESSAGES + 1)}),
    "responses items": ("/v1/responses", {"input": [HI] * MANY}),
    "responses tools": ("/v1/responses", {"input": "hi", "tools": [{"type": "function", "name": "f", "parameters": {}}] * MANY}),
    "cohere documents": ("/v2/chat", {"messages": [HI], "documents": [{"data": {}}] * MANY}),
    "embeddings": ("/v1/embeddings", {"input": [[1]] * MANY}),
    "rerank": ("/v1/rerank", {"query": "a", "documents": [{"text": "a"}] * MANY}),
    "tokenize": ("/v1/tokenize", {"messages": [HI] * MANY}),
    "explain": ("/v1/messages/explain", {"max_tokens": 5, "messages": [HI] * MANY}),
}


@pytest.mark.parametrize("case", sorted(BODIES))
async def test_request_of_many_tiny_parts_is_refused(up: FaultUpstream, client: httpx.AsyncClient, case: str) -> None:
    path, body = BODIES[case]
    async with serving(up) as gateway:
        answer = await client.post(gateway.url + path, json={"model": "m", **body})
        after = await client.post(gateway.url + "/v1/chat/completions", json={"model": "m", "messages": [HI]})
    assert answer.status_code == 400, answer.text
    assert any(words in answer.text for words in ("objects and lists", "At most 1000", "at most 10000 messages")), answer.text
    assert after.status_code == 200
    assert len(up.requests) == 1

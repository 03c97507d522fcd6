"""Chunks that the gateway adds to a stream of a text completion: the usage of a text that it ended, and the receipt."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, serving
from tests.flows.test_completions_flow import chat_chunks, chunks_of, complete, text_chunks


@pytest.mark.parametrize("kind", ["openai-compatible", "groq"])
@pytest.mark.parametrize("more", [{}, {"n": 2}, {"stop": ["b"]}, {"stop": ["b"], "stream_options": {"include_usage": True}}])
async def test_chunks_that_the_gateway_adds_are_text_completions(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, more: dict[str, Any]
) -> None:
    up.on("/v1/completions", sse(*text_chunks("a", "b", "c")))
    up.on("/v1/chat/completions", sse(*chat_chunks("a", "b", "c")))
    async with serving(up, kind=kind) as gateway:
        chunks = chunks_of(await complete(client, gateway, stream=True, headers=RECEIPT, **more))  # which checks each `object`
    assert "gateway" in chunks[-1]
    assert ("stream_options" in more) is any(chunk.get("usage") for chunk in chunks)

"""A stream that has begun in the fast lane keeps the caller's headers no longer, and its prompt only while the bill may need it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from tests.fast.conftest import StartPair
from tests.faults.behaviours import END, SSE, chunked
from tests.faults.client import CHAT_PATH, FaultClient, chat
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.live import live

pytestmark = pytest.mark.usefixtures("steps")

PROMPT = "How long is the river? " * 40
MESSAGES = [{"role": "user", "content": PROMPT}]
FIELDS: dict[str, dict[str, Any]] = {
    CHAT_PATH: {"messages": MESSAGES},
    "/v1/responses": {"input": PROMPT},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 99},
}
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
END_EVENT = EVENT.replace(b'{"content":"word "}', b'{},"finish_reason":"stop"')
TOKENS = "limits: { tokens: 100k/min }"


def configuration(up: FaultUpstream, settings: str) -> str:
    """Return a configuration with one model."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: {{ targets: up/mock, {settings} }}
"""


@pytest.mark.parametrize("path", list(FIELDS))
@pytest.mark.parametrize("settings", [TOKENS, "strict: false"], ids=["counted", "uncounted"])
async def test_a_begun_stream_keeps_its_prompt_only_if_it_is_not_counted(
    up: FaultUpstream, entered: list[FastCall], path: str, settings: str
) -> None:
    up.on(lambda request: request.path.endswith(CHAT_PATH[3:]), play(SSE, chunked(EVENT), HANG))
    async with live(configuration(up, settings)) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.post({"model": "m", "stream": True, **FIELDS[path]}, path=path)
        await client.read_until(b"word")
        (fast,) = entered
        call = fast._call
        assert fast._body is None
        assert list(fast.headers) == list(fast._own_cycle.scope["headers"]) == []
        kept = [body for body in (call.body, call.source) if body is not None]
        assert kept
        for body in kept:
            assert body.get("stream") is True
            assert ("messages" in body or "input" in body) == (settings != TOKENS)


@pytest.mark.parametrize("settings", [TOKENS, "strict: false"], ids=["counted", "uncounted"])
@pytest.mark.parametrize("end", [END_EVENT + b"data: [DONE]\n\n", b""], ids=["complete", "cut"])
async def test_a_stream_without_usage_is_billed_as_in_the_pipeline(
    up: FaultUpstream, start_pair: StartPair, entered: list[FastCall], settings: str, end: bytes
) -> None:
    up.on(lambda request: request.path.endswith(CHAT_PATH[3:]), play(SSE, chunked(EVENT * 30 + end), END))
    pair = await start_pair(configuration(up, settings))
    usages = []
    for gateway in pair.both:
        async with await FaultClient.connect(gateway.port) as client:
            await client.post({**chat(model="m", stream=True), "messages": MESSAGES, "max_tokens": 99})
            await client.answer()
        (record,) = await gateway.records(1)
        usages.append((record["prompt_tokens"], record["output_tokens"], record["estimated"]))
    assert len(entered) == 1
    assert usages[0] == usages[1]
    assert usages[0][0] > 100
    assert usages[0][2] is True

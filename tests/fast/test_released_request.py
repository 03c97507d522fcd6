"""A stream that has begun in the fast lane keeps the caller's headers no longer, and its prompt only while the bill may need it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from tests.fast.conftest import StartPair
from tests.faults.behaviours import END, SSE, canned, chunked, completion
from tests.faults.client import CHAT_PATH, FaultClient, chat
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.live import eventually, live

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


async def test_a_waiting_call_keeps_the_encoded_request_only_on_a_reused_connection(up: FaultUpstream, entered: list[FastCall]) -> None:
    up.on(lambda request: request.path.endswith(CHAT_PATH[3:]), play(HANG))
    up.once(canned(completion("word")))
    request = {"model": "m", **FIELDS[CHAT_PATH]}
    kept: list[bytes] = []

    def is_sent() -> bool:
        return entered[-1]._sent is not None

    async with live(configuration(up, "strict: false")) as gateway, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await FaultClient.connect(gateway.port)) for _ in range(3)]
        await clients[0].post(request)
        await clients[0].answer()
        for client in clients[1:]:
            await client.post(request)
            await up.wait_for(lambda up: len(up.requests) == len(kept) + 2)
            await eventually(is_sent)
            sent = entered[-1]._sent
            assert sent is not None
            kept.append(sent.request.body)
    assert PROMPT.encode() in kept[0]
    assert kept[1] == b""


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

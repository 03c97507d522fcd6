"""The number of functions that the gateway calls for a call of another API, compared with a chat completion that causes the same work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.fast.conftest import StartPair
from tests.fast.test_steps import ANSWER, STREAM, Upstream, functions_of_a_call, serving
from tests.native import anthropic_fake, cohere_fake, responses_fake
from tests.running import Figure

MOST_NATIVE = 1.1
"""Maximum number of functions of a native call, relative to a chat completion."""
SYSTEM = "You are a helpful assistant."
TURNS = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A test."}, {"role": "user", "content": "Why?"}]
CHAT: dict[str, Any] = {"messages": [{"role": "system", "content": SYSTEM}, *TURNS], "max_tokens": 99}
RESPONSE = {"instructions": SYSTEM, "input": TURNS, "max_output_tokens": 99}
MESSAGE = {"system": SYSTEM, "messages": TURNS, "max_tokens": 99}
TEXT = {"object": "text_completion", "choices": [{"index": 0, "text": "hello", "finish_reason": "stop", "logprobs": None}]}
COMPLETION = json.dumps({**TEXT, "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}}).encode()
VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 2}}


class AnyUpstream(Upstream):
    """Answers calls of all these APIs."""

    answers: Mapping[bytes, tuple[bytes, bytes]] = {
        b"/chat/completions": (ANSWER, STREAM),
        b"/completions": (COMPLETION, b"data: %b\n\ndata: [DONE]\n\n" % COMPLETION),
        b"/embeddings": (json.dumps(VECTORS).encode(), b""),
        b"/responses": (responses_fake.ANSWER, responses_fake.STREAM),
        b"/messages": (anthropic_fake.ANSWER, anthropic_fake.STREAM),
        b"/v2/chat": (cohere_fake.ANSWER, cohere_fake.STREAM),
    }


class Case(NamedTuple):
    """A call, and the maximum number of functions called for it as JSON and as a stream. Lower a number when fewer are called."""

    path: str
    model: str
    body: dict[str, Any]
    most: dict[bool, int]
    is_native: bool = False


CASES = {
    "Responses, native": Case("/v1/responses", "openai", RESPONSE, {False: 790, True: 980}, True),
    "Messages, native": Case("/v1/messages", "anthropic", MESSAGE, {False: 820, True: 1050}, True),
    "Cohere's chat, native": Case("/v2/chat", "cohere", CHAT, {False: 840, True: 1050}, True),
    "Responses, translated": Case("/v1/responses", "up", RESPONSE, {False: 1040, True: 1490}),
    "Messages, translated": Case("/v1/messages", "up", MESSAGE, {False: 1000, True: 1390}),
    "completions": Case("/v1/completions", "up", {"prompt": "What is it?", "max_tokens": 99}, {False: 850, True: 1130}),
    "embeddings": Case("/v1/embeddings", "up", {"input": "What is it?"}, {False: 760}),
}
WAYS = [(name, stream) for name in CASES for stream in (False, True) if stream in CASES[name].most]


@pytest.fixture
def any_upstream() -> Iterator[int]:
    """Serve an upstream of these APIs in other threads. Return its port."""
    with serving(AnyUpstream) as port:
        yield port


@pytest.mark.parametrize(("name", "stream"), WAYS)
async def test_a_call_of_another_api_takes_few_steps(
    any_upstream: int, start_pair: StartPair, name: str, stream: bool, figure: Figure
) -> None:
    url = f"http://127.0.0.1:{any_upstream}"
    limits = "limits: { requests: 1M/min, tokens: 1000M/min }"
    pair = await start_pair(
        f"""
providers:
  up: {{ type: openai-compatible, base_url: "{url}/v1" }}
  openai: {{ type: openai, api_key: "${{KEY}}", base_url: "{url}/v1" }}
  anthropic: {{ type: anthropic, api_key: "${{KEY}}", base_url: "{url}" }}
  cohere: {{ type: cohere, api_key: "${{KEY}}", base_url: "{url}/v2" }}
models:
  up: {{ targets: up/mock, {limits} }}
  openai: {{ targets: openai/mock, {limits} }}
  anthropic: {{ targets: anthropic/mock, {limits} }}
  cohere: {{ targets: cohere/mock, {limits} }}
""",
        environ={"KEY": "sk-upstream"},
    )
    case, more = CASES[name], {"stream": True} if stream else {}
    headers = [("anthropic-version", "2023-06-01")] if case.model == "anthropic" else []
    of_chat = await functions_of_a_call(pair.fast, {"model": "up", **CHAT, **more})
    functions = await functions_of_a_call(pair.fast, {"model": case.model, **case.body, **more}, case.path, headers)
    figure(f"functions of a call, {name}, {'stream' if stream else 'JSON'}", functions, f"({functions / of_chat:.2f} x chat)")
    assert functions <= case.most[stream]
    if case.is_native:
        assert functions <= MOST_NATIVE * of_chat

"""A call of any API reaches OpenAI's Responses API where the model needs it, and its reasoning comes back in the next turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.providers.strict_responses import response_objections
from tests.providers.test_responses_answers import CALL, THOUGHT, events_of, response, said
from tests.support.apis import CHAT_API, CONVERSATIONS, Api, Tokens
from tests.support.in_memory import InMemory

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
CHAT: dict[str, Any] = {"model": "openai", "messages": [{"role": "user", "content": "Weather?"}], "tools": TOOLS, "max_tokens": 99}
RESPONSES_API = next(api for api in CONVERSATIONS if api.name == "responses")
SEALED = {name: THOUGHT[name] for name in ("type", "id", "summary", "encrypted_content")}


@pytest.fixture(scope="module")
def gateway() -> InMemory:
    """A gateway with a model that accepts tools only through the Responses API."""
    gateway = InMemory([("openai", "gpt-5.6")])
    gateway.upstream.answer = answer
    return gateway


def answer(body: dict[str, Any]) -> list[bytes]:
    """Answer as a strict server: a call, or a text after its result."""
    assert response_objections(body) == []
    has_result = any(item.get("type") == "function_call_output" for item in body["input"])
    value = response(THOUGHT, said("It is sunny.")) if has_result else response(THOUGHT, CALL)
    if not body.get("stream"):
        return [json.dumps(value).encode()]
    return [b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events_of(value, pieces=True)]


@pytest.mark.parametrize("api", CONVERSATIONS, ids=lambda api: api.name)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_api_reaches_the_responses_api(gateway: InMemory, api: Api, stream: bool) -> None:
    fields = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    recorder = await gateway.call(api, api.body({**CHAT, **fields}))
    assert recorder.status == 200, recorder.body
    told = api.read_bytes(recorder.body, stream=stream)
    assert (told.reasoning, told.calls, told.stop) == ("First.\n\nSecond.", (("call_1", "f", {"a": 1}),), "tool_calls")
    assert told.tokens is not None
    assert told.tokens[:3] == Tokens(9, 5, 4)[:3]


async def test_chat_message_brings_its_reasoning_back(gateway: InMemory) -> None:
    first = json.loads((await gateway.call(CHAT_API, CHAT)).body)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    recorder = await gateway.call(CHAT_API, {**CHAT, "messages": [*CHAT["messages"], first, result]}, (b"x-gateway-strict", b"true"))
    assert CHAT_API.read_bytes(recorder.body, stream=False).text == "It is sunny."
    assert json.loads(gateway.upstream.bodies[-1])["input"][1] == SEALED


async def test_response_brings_its_reasoning_back(gateway: InMemory) -> None:
    body = RESPONSES_API.body(CHAT)
    first = json.loads((await gateway.call(RESPONSES_API, body)).body)["output"]
    given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    recorder = await gateway.call(RESPONSES_API, {**body, "input": [*given, *first, result]}, (b"x-gateway-strict", b"true"))
    assert RESPONSES_API.read_bytes(recorder.body, stream=False).text == "It is sunny."
    assert json.loads(gateway.upstream.bodies[-1])["input"][1] == SEALED


async def test_legacy_functions_and_several_choices_hold(gateway: InMemory) -> None:
    chat = {"model": "openai", "messages": CHAT["messages"], "functions": [TOOLS[0]["function"]], "n": 2, "stop": ["never"]}
    choices = json.loads((await gateway.call(CHAT_API, chat)).body)["choices"]
    assert [choice["message"]["function_call"]["name"] for choice in choices] == ["f", "f"]
    assert [choice["finish_reason"] for choice in choices] == ["function_call"] * 2


async def test_stop_strings_end_the_text(gateway: InMemory) -> None:
    messages = [
        *CHAT["messages"],
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", **TOOLS[0], "function": {"name": "f", "arguments": "{}"}}]},
    ]
    chat = {**CHAT, "messages": [*messages, {"role": "tool", "tool_call_id": "c", "content": "sunny"}], "stop": " sunny"}
    told = CHAT_API.read_bytes((await gateway.call(CHAT_API, chat)).body, stream=False)
    assert (told.text, told.stop) == ("It is", "stop")

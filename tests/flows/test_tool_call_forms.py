"""Tool calls in the caller's form through the whole gateway: legacy functions, custom tools, and checked arguments."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import Exchange, FaultUpstream, Script, canned
from tests.flows.conftest import RECEIPT, chat, events, post_as, post_chat, serving
from tests.support.apis import CONVERSATIONS, Api

FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
LEGACY = {"functions": [FUNCTION], "function_call": {"name": "weather"}}
CUSTOM = {"tools": [{"type": "custom", "custom": {"name": "patch"}}]}
STRICT = {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]}


def calls(name: str, *arguments: str) -> Script:
    """Return a script that makes one call for each text, as JSON or as a stream."""
    made = [
        {"id": f"c{index}", "type": "function", "function": {"name": name, "arguments": text}} for index, text in enumerate(arguments)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    base = {"id": "c", "created": 1, "model": "mock"}

    async def script(exchange: Exchange) -> None:
        message = {"role": "assistant", "content": None, "tool_calls": made}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        body = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        for index, call in enumerate(made):
            text = str(call["function"]["arguments"])  # type: ignore[index]
            deltas.append({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": text[:4]}}]})
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": text[4:]}}]})
        chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        chunks.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
        whole = [{**base, "object": "chat.completion.chunk", "choices": [chunk]} for chunk in chunks]
        stream = [json.dumps(chunk).encode() for chunk in whole]
        await (sse(*stream, b"[DONE]") if exchange.request.json.get("stream") else canned(json.dumps(body).encode()))(exchange)

    return script


async def ask(client: httpx.AsyncClient, url: str, *, stream: bool, **more: Any) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """Send one call. Return the message, as the `openai` package joins it, the finish reason and the adjustments."""
    answer = await client.post(url + "/chat/completions", json=chat(stream=stream, **more), headers=RECEIPT)
    assert answer.status_code == 200, answer.text
    if not stream:
        body = answer.json()
        return body["choices"][0]["message"], body["choices"][0]["finish_reason"], body["gateway"]["adjustments"]
    chunks = [json.loads(chunk) for chunk in events(answer.text)[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    message: dict[str, Any] = {}
    for choice in choices:
        called = choice["delta"].get("function_call")
        if called:
            before = message.setdefault("function_call", {"name": called.get("name"), "arguments": ""})
            before["arguments"] += called.get("arguments", "")
        for piece in choice["delta"].get("tool_calls", ()):
            kind = "custom" if "custom" in piece else "function"
            text = "input" if kind == "custom" else "arguments"
            made = message.setdefault("tool_calls", [])
            if piece["index"] == len(made):
                made.append({"id": piece["id"], "type": piece["type"], kind: {"name": piece[kind]["name"], text: ""}})
            made[piece["index"]][kind][text] += piece[kind].get(text, "")
    return message, choices[-1]["finish_reason"], chunks[-1]["gateway"]["adjustments"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["mistral", "vllm", "fireworks"])
async def test_a_caller_of_functions_gets_a_function_call(up: FaultUpstream, client: httpx.AsyncClient, kind: str, stream: bool) -> None:
    up.on("/v1/chat/completions", calls("weather", '{"city": "Bern"}'))
    async with serving(up, kind=kind) as gateway:
        message, finish, adjustments = await ask(client, gateway.base_url, stream=stream, **LEGACY)
    assert (message["function_call"], finish) == ({"name": "weather", "arguments": '{"city": "Bern"}'}, "function_call")
    assert not message.get("tool_calls")
    if kind != "fireworks":
        assert {("functions", "reshape"), ("function_call", "reshape")} <= {(each["param"], each["action"]) for each in adjustments}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_of_custom_tools_gets_their_calls(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", calls("patch", json.dumps({"input": 'a "b"\n'})))
    async with serving(up, kind="mistral") as gateway:
        message, finish, adjustments = await ask(client, gateway.base_url, stream=stream, **CUSTOM)
    assert message["tool_calls"] == [{"id": "c0", "type": "custom", "custom": {"name": "patch", "input": 'a "b"\n'}}]
    assert finish == "tool_calls"
    assert {"param": "tools[0]", "action": "reshape"}.items() <= adjustments[0].items()
    assert up.requests[0].json["tools"][0]["function"]["parameters"]["required"] == ["input"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("arguments", "warned"), [('{"city": "Bern"}', False), ('{"town": "Bern"}', True)])
async def test_arguments_of_strict_functions_are_checked(
    up: FaultUpstream, client: httpx.AsyncClient, arguments: str, warned: bool, stream: bool
) -> None:
    up.on("/v1/chat/completions", calls("weather", arguments))
    async with serving(up, kind="mistral") as gateway:
        message, _, adjustments = await ask(client, gateway.base_url, stream=stream, **STRICT)
    assert message["tool_calls"][0]["function"]["arguments"] == arguments
    warnings = [each for each in adjustments if (each["param"], each["action"]) == ("tools", "warn")]
    assert len(warnings) == warned
    assert any(each["param"] == "tools[0].function.strict" and each["action"] == "enforce_locally" for each in adjustments)


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_are_converted_each(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", calls("weather", "{}", "{}"))
    async with serving(up, kind="groq") as gateway:  # one choice a request
        answer = await post_chat(client, gateway, n=2, stream=stream, **LEGACY)
    assert answer.status_code == 200
    assert "tool_calls" not in answer.text
    assert answer.text.count('"finish_reason":"function_call"') == 2


@pytest.mark.parametrize("api", CONVERSATIONS, ids=[api.name for api in CONVERSATIONS])
async def test_a_choice_of_an_unknown_tool_is_refused_before_it_is_sent(up: FaultUpstream, client: httpx.AsyncClient, api: Api) -> None:
    tools: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]}
    choice: dict[str, Any] = {"type": "function", "function": {"name": "wether"}}
    async with serving(up) as gateway:
        answer = await post_as(api, client, gateway, tool_choice=choice, **tools)
    assert (answer.status_code, len(up.requests)) == (400, 0)
    error = api.read(answer).error
    assert error is not None
    assert (error["param"], error["code"]) == ("tool_choice", "invalid_value")
    assert "'wether'" in error["message"]

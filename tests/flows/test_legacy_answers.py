"""An upstream that answers with the legacy `function_call`, although the request has `tools`.

Functionary's server did so (MeetKai/functionary#92), and the streams of other servers still do (oh-my-pi#1692).
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.flows.conftest import RECEIPT, chat, events, post_as, serving
from tests.support.apis import ALL_WAYS, Api

FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]}
BASE = {"id": "c", "created": 1, "model": "mock"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
CALL = {"name": "weather", "arguments": '{"city": "Bern"}'}
DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ""}},
    {"function_call": {"arguments": '{"city": '}},
    {"function_call": {"arguments": '"Bern"}'}},
]
NOTE = {"action": "reshape", "from": "function_call", "to": "tool_calls", "why": "the upstream answered with the legacy 'function_call'"}
EACH_WAY = pytest.mark.parametrize(("api", "stream"), ALL_WAYS, ids=[f"{api.name}-{stream}" for api, stream in ALL_WAYS])


async def legacy(exchange: Exchange) -> None:
    """Answer with a function call, as JSON or as a stream."""
    message = {"role": "assistant", "content": None, "function_call": CALL}
    choice = {"index": 0, "message": message, "finish_reason": "function_call"}
    body = {**BASE, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    choices = [*({"index": 0, "delta": delta, "finish_reason": None} for delta in DELTAS),
               {"index": 0, "delta": {}, "finish_reason": "function_call"}]  # fmt: skip
    stream = [json.dumps({**BASE, "object": "chat.completion.chunk", "choices": [choice]}).encode() for choice in choices]
    await (sse(*stream, b"[DONE]") if exchange.request.json.get("stream") else canned(json.dumps(body).encode()))(exchange)


@EACH_WAY
async def test_a_function_call_becomes_a_tool_call(up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool) -> None:
    up.on("/v1/chat/completions", legacy)
    async with serving(up) as gateway:
        told = api.read(await post_as(api, client, gateway, headers=RECEIPT, stream=stream, **TOOLS))
    ((id, name, arguments),) = told.calls
    assert (name, arguments, told.stop) == ("weather", {"city": "Bern"}, "tool_calls")
    assert id
    assert told.receipt is not None
    notes = [note for note in told.receipt["adjustments"] if note["param"] == "tools"]
    assert notes == [{"param": "tools", **NOTE}]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_log_has_the_repair_without_a_receipt(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", legacy)
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(stream=stream, **TOOLS))
        assert "function_call" not in answer.text
        (record,) = await gateway.records(1)
    assert "tools:reshape" in record["adjustments"]


@pytest.mark.parametrize("kind", ["openai-compatible", "mistral", "mistral, pass: [functions]"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", [{}, {"tools": []}], ids=["functions", "no tools"])
async def test_a_caller_of_functions_keeps_the_function_call(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, stream: bool, more: dict[str, Any]
) -> None:
    up.on("/v1/chat/completions", legacy)
    async with serving(up, kind=kind) as gateway:
        body = chat(stream=stream, functions=[FUNCTION], **more)
        answer = await client.post(gateway.base_url + "/chat/completions", json=body, headers=RECEIPT)
    assert '"tool_calls"' not in answer.text
    parts = [json.loads(event) for event in events(answer.text)[:-1]] if stream else [answer.json()]
    choices = [choice for part in parts for choice in part["choices"]]
    calls = [(choice.get("delta") or choice.get("message") or {}).get("function_call") or {} for choice in choices]
    assert "".join(call.get("arguments", "") for call in calls) == CALL["arguments"]
    assert choices[-1]["finish_reason"] == "function_call"

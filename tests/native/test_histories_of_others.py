"""A conversation that another provider began continues at a provider that gets the caller's own request."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT
from tests.native import anthropic_fake, responses_fake
from tests.native import test_native_calls as messages
from tests.native import test_native_responses as responses

TOOL = {"name": "f", "input_schema": {"type": "object"}}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
ODD_IDS = ["functions.f:0", "x" * 65, "call|1/=", "call|1_=", "same", "same"]


def asks_for_tools(ids: list[str], **message: Any) -> bytes:
    """Return a chat completion with one tool call for each id."""
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    said = {"role": "assistant", "content": "\n", "tool_calls": calls, **message}
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize("headers", [RECEIPT, {**RECEIPT, **messages.STRICT}])
@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_another_provider_are_accepted_by_anthropic(
    up: FaultUpstream, client: httpx.AsyncClient, headers: dict[str, str], stream: bool
) -> None:
    up.on(messages.CHAT, canned(asks_for_tools(ODD_IDS)))
    up.on(messages.MESSAGES, anthropic_fake.speaks_messages())
    history: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
    async with messages.served(messages.config(up, rest="  other: up/mock")) as gateway:
        for _ in range(2):  # the second turn has the same ids
            begun = (await messages.send(client, gateway, model="other", messages=history, tools=[TOOL])).json()
            ids = [block["id"] for block in begun["content"] if block["type"] == "tool_use"]
            assert len(ids) == len(ODD_IDS)
            results = [{"type": "tool_result", "tool_use_id": id, "content": f"{id} {at}"} for at, id in enumerate(ids)]
            history += [{"role": "assistant", "content": begun["content"]}, {"role": "user", "content": results}]
        answer = await messages.send(client, gateway, messages=history, tools=[TOOL], headers=headers, stream=stream)
        last = up.requests[-1]
        plan = await client.post(
            f"{gateway.url}{messages.MESSAGES}/explain", json=messages.body(messages=history, tools=[TOOL]), headers=messages.VERSION
        )
    assert answer.status_code == 200, answer.text
    assert last.path == messages.MESSAGES
    sent = last.json["messages"]
    for called, answered, before in ((sent[1], sent[2], history[2]), (sent[3], sent[4], history[4])):
        assert [block["id"] for block in called["content"]] == [block["tool_use_id"] for block in answered["content"]]
        assert [block["content"] for block in answered["content"]] == [block["content"] for block in before["content"]]
    told = json.loads(answer.text.partition('"gateway":')[2].partition(',"stop_matched"')[0] + "}")["adjustments"]
    renamed = {each["param"]: each.get("to") for each in told if each["action"] == "reshape"}
    at = [block["type"] for block in history[1]["content"]].index("tool_use")
    assert renamed[f"messages[1].content[{at}].id"] == sent[1]["content"][0]["id"]
    assert renamed["messages[2].content[0].tool_use_id"] == sent[2]["content"][0]["tool_use_id"]
    assert plan.json()["targets"][0]["request"]["body"]["messages"] == sent


async def test_turn_that_anthropic_accepts_keeps_its_bytes(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(messages.MESSAGES, anthropic_fake.speaks_messages())
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": ""}}
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "text", "text": " Hm"}, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "\n"}]},
    ]  # fmt: skip
    source = json.dumps({"model": "claude-opus-4-6", "max_tokens": 50, "messages": history, "tools": [TOOL]}, indent=2).encode()
    headers = {**messages.VERSION, "content-type": "application/json"}
    async with messages.served(messages.config(up, rest="  claude-opus-4-6: ant/claude-opus-4-6")) as gateway:
        answer = await client.post(gateway.url + messages.MESSAGES, content=source, headers=headers)
    assert answer.status_code == 200, answer.text
    assert up.requests[0].body == source
    assert "x-gateway-adjusted" not in answer.headers


@pytest.mark.parametrize("blank", [[], "", " \n", [{"type": "text", "text": "\t"}]])
async def test_blank_answer_of_another_provider_is_left_out_for_anthropic(up: FaultUpstream, client: httpx.AsyncClient, blank: Any) -> None:
    up.on(messages.MESSAGES, anthropic_fake.speaks_messages())
    unsigned = {"type": "thinking", "thinking": "Hm", "signature": ""}
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": blank},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": [{"type": "text", "text": "\n"}, unsigned, {"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "and"},
    ]
    async with messages.served(messages.config(up)) as gateway:
        answer = await messages.send(client, gateway, messages=history, headers=RECEIPT)
    assert answer.status_code == 200, answer.text
    assert up.requests[0].json["messages"] == [
        history[0], history[2], {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}, history[4],
    ]  # fmt: skip
    place = "messages[1].content[0]" if blank and isinstance(blank, list) else "messages[1].content"
    params = [each["param"] for each in answer.json()["gateway"]["adjustments"]]
    assert params == [place, "messages[3].content[0]", "messages[3].content[1]"]


@pytest.mark.parametrize("headers", [RECEIPT, {**RECEIPT, **responses.STRICT}])
@pytest.mark.parametrize("stored", [False, True])
async def test_calls_of_another_provider_are_accepted_by_openai(
    up: FaultUpstream, client: httpx.AsyncClient, headers: dict[str, str], stored: bool
) -> None:
    ids = ["x" * 64, "y" * 65, "y" * 66, "z" * 65 + "é"]
    up.on(responses.CHAT, canned(asks_for_tools(ids, content="Hm")))
    up.on(responses.RESPONSES, responses_fake.speaks_responses())
    async with responses.served(up) as gateway:
        begun = (await responses.send(client, gateway, model="chat", tools=[FUNCTION], store=stored)).json()
        calls = [item for item in begun["output"] if item["type"] == "function_call"]
        outputs = [{"type": "function_call_output", "call_id": item["call_id"], "output": item["call_id"]} for item in calls]
        asked = {"previous_response_id": begun["id"], "input": outputs} if stored else {
            "input": [{"role": "user", "content": "hello"}, *begun["output"], *outputs]
        }  # fmt: skip
        answer = await responses.send(client, gateway, headers=headers, tools=[FUNCTION], **asked)
    assert answer.status_code == 200, answer.text
    sent = up.requests[-1].json["input"]
    called = [item["call_id"] for item in sent if item.get("type") == "function_call"]
    assert called == [item["call_id"] for item in sent if item.get("type") == "function_call_output"]
    assert called[0] == ids[0]
    assert len(set(called)) == len(ids)
    assert [item["output"] for item in sent if "output" in item] == ids
    told = [each["param"] for each in answer.json()["gateway"]["adjustments"] if each["action"] == "reshape"]
    assert f"input[{len(asked['input']) - 1}].call_id" in told

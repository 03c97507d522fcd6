"""A client of Anthropic's API on a reasoning model of OpenAI: the model gets its reasoning back with each tool result."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx

from tests.dialects.messages_api.grammar import read_message
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Exchange
from tests.flows.conftest import RECEIPT
from tests.flows.live import live
from tests.native import anthropic_fake
from tests.native import responses_fake as fake

CALL = {
    "id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "f", "arguments": '{"city": "Bern"}',
}  # fmt: skip
SUMMARY = [{"type": "summary_text", "text": "I call f."}]
OUTPUT = [{**fake.REASONING, "summary": SUMMARY}, CALL]
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
TURN = {"role": "user", "content": "How is the weather?"}
EVENTS = (
    fake.START,
    fake.event("response.output_item.added", 2, output_index=0, item={**OUTPUT[0], "summary": []}),
    fake.event("response.output_item.done", 3, output_index=0, item=OUTPUT[0]),
    fake.event("response.output_item.added", 4, output_index=1, item={**CALL, "arguments": ""}),
    fake.event("response.function_call_arguments.delta", 5, item_id="fc_1", output_index=1, delta='{"city": "Bern"}'),
    fake.event("response.function_call_arguments.done", 6, item_id="fc_1", output_index=1, arguments='{"city": "Bern"}'),
    fake.event("response.output_item.done", 7, output_index=1, item=CALL),
    fake.event("response.completed", 8, response={**fake.RESPONSE, "output": OUTPUT}),
)
YAML = """
providers:
  oai: {{ type: openai, base_url: "{base}", api_key: "${{KEY}}" }}
  other: {{ type: openai, base_url: "{base}", api_key: "${{KEY}}" }}
  ant: {{ type: anthropic, base_url: "{base}", api_key: "${{ANT}}" }}
models: {{ m: oai/gpt-5.6, other: other/gpt-5.6, claude: ant/claude-opus-4-6 }}
"""


async def openai(exchange: Exchange) -> None:
    """Check the request, and answer with reasoning and a call, as JSON or as a stream."""
    answer = json.dumps({**fake.RESPONSE, "output": OUTPUT}).encode()
    await fake.speaks_responses(answer, EVENTS)(exchange)


def reasoning_in(body: dict[str, Any]) -> list[Any]:
    """Return each encrypted reasoning in a request, with its summary and the id of the call that follows it."""
    items = body["input"]
    return [
        (item["encrypted_content"], item["summary"], following["call_id"])
        for item, following in pairwise(items)
        if item.get("type") == "reasoning"
    ]


async def test_reasoning_goes_back_to_the_model_that_made_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/responses", openai)
    up.on("/v1/messages", canned(anthropic_fake.ANSWER))
    async with live(YAML.format(base=up.base_url), environ={"KEY": fake.KEY, "ANT": anthropic_fake.KEY}) as gateway:

        async def send(**more: Any) -> httpx.Response:
            body = {"model": "m", "max_tokens": 500, "messages": [TURN], "tools": [TOOL], **more}
            answer = await client.post(gateway.url + "/v1/messages", json=body, headers=RECEIPT)
            assert answer.status_code == 200, answer.text
            return answer

        for stream in (False, True):
            first = await send(stream=stream)
            message = read_message(first.content) if stream else first.json()
            blocks = [{name: value for name, value in block.items() if name != "arguments"} for block in message["content"]]
            if stream:
                blocks[-1]["input"] = json.loads(message["content"][-1]["arguments"])
            assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
            assert blocks[0]["thinking"] == "I call f."
            result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]}
            turns = [TURN, {"role": "assistant", "content": blocks}, result]
            second = await send(messages=turns)
            assert reasoning_in(up.requests[-1].json) == [(fake.REASONING["encrypted_content"], SUMMARY, "call_1")]
            dropped = [each["why"] for each in second.json()["gateway"]["adjustments"] if each["action"] == "drop"]
            assert dropped == ["the encrypted reasoning is sent"], "it replaces its summary"
            strict = {"model": "m", "max_tokens": 500, "messages": turns, "tools": [TOOL]}
            await client.post(gateway.url + "/v1/messages", json=strict, headers={"x-gateway-strict": "true"})
            assert len(reasoning_in(up.requests[-1].json)) == 1
            elsewhere = await send(messages=turns, model="other")
            assert reasoning_in(up.requests[-1].json) == []
            dropped = [each["param"] for each in elsewhere.json()["gateway"]["adjustments"] if each["action"] == "drop"]
            assert "messages[1].content[0]" in dropped
            await send(messages=turns, model="claude")
            assert [block["type"] for block in up.requests[-1].json["messages"][1]["content"]] == ["tool_use"]

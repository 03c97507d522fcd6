"""The Responses API over HTTP: the features of chat completions work, under the names of this API."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.dialects.responses_api.grammar import assemble, parse
from tests.faults.behaviours import broken_by, canned, chat_chunk, completion, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, serving
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

TOKEN = "lg-a-0123456789abcdef"
ENVIRON = {"UP_KEY": "sk-upstream-credential"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


async def post(
    client: httpx.AsyncClient, gateway: Live, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    """Send one call."""
    return await client.post(
        gateway.base_url + "/responses", json={"model": "m", "input": "hello", **body}, headers=headers
    )


async def test_answer_and_stream_have_the_same_content(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answered = await post(client, gateway)
        streamed = await post(client, gateway, stream=True)
    assert answered.headers["content-type"] == "application/json"
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    body, final = answered.json(), assemble(streamed.content)
    assert body["output"][0]["content"] == final["output"][0]["content"]
    assert body["usage"]["output_tokens"] == final["usage"]["output_tokens"] == 5
    assert up.requests[0].json == {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
    assert up.requests[1].json["stream_options"] == {"include_usage": True}


async def test_turn_with_tools_is_translated_in_both_directions(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "Hm", "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    up.on("/v1/chat/completions", canned(json.dumps({"id": "c", "choices": [choice]}).encode()))
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    async with serving(up) as gateway:
        first = (await post(client, gateway, tools=[tool])).json()
        result = {"type": "function_call_output", "call_id": "c1", "output": "12"}
        await post(
            client, gateway, tools=[tool], input=[{"role": "user", "content": "hello"}, *first["output"], result]
        )
    function = {"name": "f", "parameters": {"type": "object"}, "strict": True}
    assert up.requests[0].json["tools"] == [{"type": "function", "function": function}]
    assert up.requests[1].json["messages"] == [
        {"role": "user", "content": "hello"},
        message,
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
    ]


async def test_signed_thinking_returns_to_anthropic_unchanged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln+/=="},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    ]
    content = [*blocks, {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]
    usage = {"input_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 4, "output_tokens": 5}
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": content,
        "stop_reason": "tool_use",
        "usage": usage,
    }
    up.on("/v1/messages", canned(json.dumps(answer).encode()))
    result = {"type": "function_call_output", "call_id": "c1", "output": "12"}
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]
    async with serving(up, kind="anthropic") as gateway:
        first = (await post(client, gateway, tools=tools, max_output_tokens=100)).json()
        await post(
            client,
            gateway,
            tools=tools,
            max_output_tokens=100,
            input=[{"role": "user", "content": "hello"}, *first["output"], result],
        )
    assert up.requests[1].json["messages"][1]["content"] == content
    assert first["usage"]["input_tokens_details"] == {"cached_tokens": 2, "cache_write_tokens": 4}
    assert first["usage"]["input_tokens"] == 9


@pytest.mark.parametrize("stream", [False, True])
async def test_receipt_in_the_body_names_the_callers_parameters(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    async with serving(up, kind="goodfire") as gateway:
        answered = await post(
            client,
            gateway,
            RECEIPT,
            stream=stream,
            reasoning={"effort": "low", "summary": "detailed"},
            service_tier="flex",
        )
    body = assemble(answered.content) if stream else answered.json()
    changed = [each["param"] for each in body["gateway"]["adjustments"]]
    assert changed[0] == "reasoning.summary"
    assert {"reasoning.effort", "service_tier"} <= set(changed)
    assert not {"reasoning_effort", "messages"} & set(changed)
    assert '"reasoning.effort";drop' in answered.headers["x-gateway-adjusted"]


async def test_strict_mode_refuses_what_would_be_lost(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="goodfire") as gateway:
        of_the_api = await post(client, gateway, {"x-gateway-strict": "true"}, reasoning={"summary": "detailed"})
        of_the_provider = await post(client, gateway, {"x-gateway-strict": "true"}, reasoning={"effort": "low"})
    assert [answer.status_code for answer in (of_the_api, of_the_provider)] == [400, 400]
    assert [answer.json()["error"]["param"] for answer in (of_the_api, of_the_provider)] == [
        "reasoning.summary",
        "reasoning.effort",
    ]
    assert up.requests == []


async def test_limits_of_the_key_hold(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ requests: 1/min }} }}\n"
    async with serving(up, keys) as gateway:
        answers = [await post(client, gateway, bearer(TOKEN)) for _ in range(2)]
        unknown = await post(client, gateway, bearer("lg-wrong"))
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "1"
    assert answers[1].json()["error"]["code"] == "rate_limit_exceeded"
    assert unknown.status_code == 401


@pytest.mark.parametrize("stream", [False, True])
async def test_failed_target_is_replaced_by_the_next(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    up.on("/v1/chat/completions", status(500))
    config = f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other: {{ type: openai-compatible, base_url: "{other.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: [up/mock, other/mock]
"""
    async with live(config, environ=ENVIRON) as gateway:
        answered = await post(client, gateway, stream=stream)
    body = assemble(answered.content) if stream else answered.json()
    assert body["status"] == "completed"
    assert answered.headers["x-gateway-target"] == "other/mock"


async def test_broken_stream_ends_with_a_failed_response(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", broken_by())
    async with serving(up) as gateway:
        answered = await post(client, gateway, RECEIPT, stream=True)
    final = assemble(answered.content)
    assert final["status"] == "failed"
    assert final["error"]["code"] == "server_error"
    assert final["output"][0]["content"][0]["text"] == "one two "
    assert final["gateway"]["attempts"]


async def test_broken_stream_is_continued_by_the_next_target(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on("/v1/chat/completions", broken_by())
    other.on("/v1/chat/completions", sse(chat_chunk("three", role="assistant"), chat_chunk(finish="stop"), b"[DONE]"))
    config = f"""
providers:
  up: {{ type: vllm, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other: {{ type: vllm, base_url: "{other.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: {{ targets: [up/mock, other/mock], continue_on_cut: true }}
"""
    async with live(config, environ=ENVIRON) as gateway:
        answered = await post(client, gateway, stream=True)
    final = assemble(answered.content)
    assert (final["status"], final["output"][0]["content"][0]["text"]) == ("completed", "one two three")
    assert len(final["output"]) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_strings_end_the_text(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        answered = await post(client, gateway, stream=stream, stop=["w2"])
    body = assemble(answered.content) if stream else answered.json()
    assert body["output"][0]["content"][0]["text"] == "w0 w1 "
    assert body["usage"]["output_tokens"] > 0


async def test_json_schema_is_emulated_for_a_provider_without_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", canned(completion('{"city": "Paris"}')))
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "city", "schema": schema, "strict": True}
    async with serving(up, kind="goodfire") as gateway:
        answered = await post(client, gateway, RECEIPT, text={"format": form})
    assert json.loads(answered.json()["output"][0]["content"][0]["text"]) == {"city": "Paris"}
    assert "text.format" in [each["param"] for each in answered.json()["gateway"]["adjustments"]]


async def test_truncation_evicts_the_oldest_items(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    items = [{"role": role, "content": f"{role} " + "word " * 300} for _ in range(10) for role in ("user", "assistant")]
    config = {
        "providers": {"up": {"type": "openai-compatible", "base_url": up.base_url, "api_key": "${UP_KEY}"}},
        "models": {"m": {"targets": "up/mock", "context": {"window": 2000}}},
    }
    async with live(json.dumps(config), environ=ENVIRON) as gateway:
        truncated = await post(
            client,
            gateway,
            truncation="auto",
            max_output_tokens=50,
            input=[*items, {"role": "user", "content": "And now?"}],
        )
        refused = await post(client, gateway, truncation="disabled", max_output_tokens=50, input=items)
    assert truncated.status_code == 200, truncated.text
    assert len(up.requests[0].json["messages"]) < len(items)
    assert up.requests[0].json["messages"][-1] == {"role": "user", "content": "And now?"}
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_stream_begins_with_the_first_content(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(
        "/v1/chat/completions",
        sse(chat_chunk("", role="assistant"), {"error": {"message": "no", "type": "server_error"}}),
    )
    async with serving(up) as gateway:
        answered = await post(client, gateway, stream=True)
    assert answered.status_code == 502
    assert answered.headers["content-type"] == "application/json"
    assert answered.json()["error"]["code"] == "upstream_error"


async def test_images_reach_the_provider(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    async with serving(up) as gateway:
        answered = await post(
            client, gateway, input=[{"role": "user", "content": [{"type": "input_text", "text": "See"}, image]}]
        )
    assert answered.status_code == 200
    assert up.requests[0].json["messages"][0]["content"][1] == {
        "type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
    }  # fmt: skip


async def test_events_are_numbered_over_http(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answered = await post(client, gateway, stream=True, input="#chunks=40#")
    assert [event["sequence_number"] for event in parse(answered.content)][-1] == 2 + 2 + 40 + 3


async def test_beta_header_of_this_api_is_not_reported_as_a_loss(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    headers = {"openai-beta": "responses=v1", "x-gateway-strict": "true"}
    async with serving(up, kind="goodfire") as gateway:
        answered = await post(client, gateway, headers)
    assert answered.status_code == 200, answered.text


@pytest.mark.parametrize("stream", [False, True])
async def test_custom_tool_works_at_a_provider_without_custom_tools(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "sh", "arguments": '{"input":"ls -l"}'}}
    if stream:
        up.on(
            "/v1/chat/completions",
            sse(chat_chunk(tool_calls=[{"index": 0, **call}]), chat_chunk(finish="tool_calls"), b"[DONE]"),
        )
    else:
        choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
        up.on("/v1/chat/completions", canned(json.dumps({"id": "c", "choices": [choice]}).encode()))
    async with serving(up, kind="groq") as gateway:
        answered = await post(client, gateway, stream=stream, tools=[{"type": "custom", "name": "sh"}])
    output = (assemble(answered.content) if stream else answered.json())["output"]
    assert [(item["type"], item["name"], item["input"]) for item in output] == [("custom_tool_call", "sh", "ls -l")]
    assert up.requests[0].json["tools"][0]["type"] == "function"


async def test_address_of_a_file_is_sent_only_to_a_provider_that_reads_it(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    said = [{"type": "text", "text": "ok"}]
    usage = {"input_tokens": 1, "output_tokens": 1}
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "content": said, "stop_reason": "end_turn"}
    up.on("/v1/messages", canned(json.dumps({**answer, "model": "c", "usage": usage}).encode()))
    config = f"""
providers:
  up: {{ type: anthropic, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other: {{ type: openai, base_url: "{other.base_url}", api_key: "${{UP_KEY}}", native_responses: false }}
models:
  m: [other/gpt-4.1, up/claude-sonnet-4-5]
  openai: other/gpt-4.1
"""
    items = [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.org/a.pdf"}]}]
    async with live(config, environ=ENVIRON) as gateway:
        answered = await post(client, gateway, input=items)
        refused = await post(client, gateway, model="openai", input=items)
    assert answered.status_code == 200, answered.text
    source = {"type": "url", "url": "https://example.org/a.pdf"}
    assert up.requests[0].json["messages"][0]["content"][0]["source"] == source
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[0].content[0].file_url")
    assert other.requests == []

"""Calls of the Responses API to OpenAI: the bytes are unchanged, and any target can continue a stored response."""

from __future__ import annotations

import json
import re
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import WORDS, play, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import FIN, Exchange
from tests.flows.conftest import RECEIPT
from tests.flows.live import Live, live
from tests.native import responses_fake as fake

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
SEARCH_TOOL = {"type": "web_search", "search_context_size": "low"}
STRICT = {"x-gateway-strict": "true"}


def served(
    up: FaultUpstream, targets: str = "oai/gpt-5.2", model: str = "", provider: str = "", rest: str = ""
) -> AbstractAsyncContextManager[Live]:
    """Serve a configuration with the model `m` at OpenAI and the model `chat` elsewhere."""
    prices = "prices: { '*': { prompt: 1, output: 2, cached: 0.5, cache_write: 3 } }"
    yaml = f"""
providers:
  oai: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", {prices}{provider} }}
  az: {{ type: azure, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", auth: bearer, base_model: gpt-5.2 }}
  classic: {{ type: azure, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", api: classic, api_version: 2024-10-21 }}
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: {{ targets: {targets}{model} }}
  chat: up/mock
{rest}"""
    return live(yaml, environ={"UP_KEY": fake.KEY})


def body(**more: Any) -> dict[str, Any]:
    """Return a request that a caller without storage sends."""
    return {"model": "m", "input": "hello", "store": False, **more}


async def send(client: httpx.AsyncClient, gateway: Live, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Make one call."""
    return await client.post(gateway.url + RESPONSES, json=body(**more), headers=headers)


@pytest.mark.parametrize("target", ["oai/gpt-5.2", "az/deployed"])
async def test_requests_and_answers_pass_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient, target: str) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    asked = body(tools=[SEARCH_TOOL], prompt={"id": "pmpt_1"}, input=[{"role": "user", "content": "hello"}, fake.REASONING, fake.SEARCH])
    model = target.split("/")[1]
    source = json.dumps({**asked, "model": model}, indent=2).encode()
    headers = {**STRICT, "content-type": "application/json"}
    async with served(up, target, rest=f"  {model}: {target}") as gateway:
        answer = await client.post(gateway.url + RESPONSES, content=source, headers=headers)
        streamed = await client.post(gateway.url + RESPONSES, json={**asked, "stream": True}, headers=headers)
        records = await gateway.records(2)
    assert (answer.status_code, answer.content) == (200, fake.ANSWER)
    assert streamed.content == fake.STREAM
    assert "x-gateway-adjusted" not in answer.headers
    assert up.requests[0].body == source
    assert up.requests[1].json == {**asked, "model": model, "stream": True}
    for record in records:
        assert (record["prompt_tokens"], record["output_tokens"]) == (13, 9)
        assert target.startswith("az") or record["cost_usd"] == pytest.approx((7 + 4 * 0.5 + 2 * 3 + 9 * 2) / 1e6)


@pytest.mark.parametrize("stream", [False, True])
async def test_receipts_and_metrics_show_the_usage(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    async with served(up) as gateway:
        answer = await send(client, gateway, headers=RECEIPT, stream=stream)
        await gateway.records(1)
        tokens = {kind: gateway.count("lockgate_tokens", kind, "reported") for kind in ("prompt", "cached", "output", "reasoning")}
    whole = json.loads(answer.text.rpartition("data: ")[2])["response"] if stream else answer.json()
    receipt = whole.pop("gateway")
    assert whole == fake.RESPONSE
    assert not stream or answer.content.startswith(b"".join(fake.EVENTS[:-1]))
    assert (receipt["usage_source"], receipt["adjustments"]) == ("reported", [])
    assert {kind: tokens[kind] for kind in ("prompt", "cached", "output")} == {"prompt": 13, "cached": 4, "output": 9}


@pytest.mark.parametrize(
    ("model", "encrypted"), [("gpt-5.2", True), ("o3", True), ("gpt-5-chat-latest", False), ("gpt-4.1", False), ("gpt-7", True)]
)
async def test_the_vendor_stores_nothing(up: FaultUpstream, client: httpx.AsyncClient, model: str, encrypted: bool) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    async with served(up, f"oai/{model}") as gateway:
        answer = await client.post(gateway.url + RESPONSES, json={"model": "m", "input": "hello"}, headers=RECEIPT)
    assert answer.status_code == 200, answer.text
    sent = json.loads(up.requests[0].body)
    assert (sent["store"], sent.get("include")) == (False, ["reasoning.encrypted_content"] if encrypted else None)
    told = [each["param"] for each in answer.json()["gateway"]["adjustments"]]
    assert told == (["store", "include"] if encrypted else ["store"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stored_response_is_continued_at_every_target(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    plain = [fake.OUTPUT[0], fake.OUTPUT[2]]
    up.on(
        RESPONSES,
        fake.speaks_responses(
            json.dumps({**fake.RESPONSE, "output": plain}).encode(),
            (*fake.EVENTS[:-1], fake.event("response.completed", 40, response={**fake.RESPONSE, "output": plain})),
        ),
    )
    async with served(up) as gateway:
        first = await send(client, gateway, store=True, stream=stream)
        whole = json.loads(first.text.rpartition("data: ")[2])["response"] if stream else first.json()
        native = await send(client, gateway, input="again", previous_response_id=fake.ID)
        chat = await send(client, gateway, headers=RECEIPT, model="chat", input="more", previous_response_id=fake.ID, store=True)
        back = await send(client, gateway, headers=RECEIPT, input="back", previous_response_id=chat.json()["id"])
        read = await client.get(f"{gateway.url}{RESPONSES}/{fake.ID}")
    assert (whole["id"], whole["store"], read.json()) == (fake.ID, True, whole)
    assert not stream or first.content.startswith(b"".join(fake.EVENTS[:-1]))
    assert native.status_code == 200, native.text
    sent = up.requests[1].json
    assert "previous_response_id" not in sent
    assert [item.get("content") for item in sent["input"][:1]] == ["hello"]
    assert sent["input"][1:3] == plain
    assert [message["content"] for message in up.requests[2].json["messages"]] == ["hello", fake.TEXT, "more"]
    assert any("encrypted_content" in each["param"] for each in chat.json()["gateway"]["adjustments"])
    assert back.status_code == 200, back.text
    assert len(up.requests[3].json["input"]) == 6


async def test_reasoning_of_other_providers_is_left_out(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    items = [
        {"role": "user", "content": "hello"},
        {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "lockgate.1.e30="},
        {"type": "reasoning", "id": "rs_8", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {"type": "message", "role": "assistant", "content": "Hi", "extra_content": {"google": {}}},
        {"role": "user", "content": "more"},
    ]
    async with served(up) as gateway:
        answer = await send(client, gateway, headers=RECEIPT, input=items)
        strict = await send(client, gateway, headers=STRICT, input=items)
    assert answer.status_code == 200, answer.text
    assert [item["content"] for item in up.requests[0].json["input"]] == ["hello", "Hi", "more"]
    assert [each["param"] for each in answer.json()["gateway"]["adjustments"]] == ["input[1]", "input[2]"]
    assert (strict.status_code, strict.json()["error"]["param"]) == (400, "input[1]")


@pytest.mark.parametrize(
    "failure",
    [
        fake.refused("Slow down", 429, "rate_limit_exceeded"),
        status(500),
        play(FIN),
        fake.speaks_responses(b'{"object":"response"}', (fake.START, fake.FAILED)),
        fake.speaks_responses(json.dumps({**fake.RESPONSE, "status": "failed", "error": fake.ERROR}).encode(), (fake.START,), FIN),
        fake.speaks_responses(b"{}", (fake.event("error", 0, code="server_error", message="Boom", param=None),)),
    ],
    ids=["429", "500", "closed", "failed", "broken", "error event"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_native_target_falls_back_to_a_translated_one(
    up: FaultUpstream, client: httpx.AsyncClient, failure: Any, stream: bool
) -> None:
    up.on(RESPONSES, failure)
    async with served(up, "[oai/gpt-5.2, up/mock]") as gateway:
        answer = await send(client, gateway, stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-target"] == "up/mock"
    assert [request.path for request in up.requests] == [RESPONSES, CHAT]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_translated_target_falls_back_to_a_native_one(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    up.on(CHAT, sse(WORDS[0], ending=FIN) if stream else status(500))
    async with served(up, "[up/mock, oai/gpt-5.2]") as gateway:
        answer = await send(client, gateway, stream=stream)
        hosted = await send(client, gateway, stream=stream, tools=[SEARCH_TOOL], headers=RECEIPT)
    assert answer.content == (fake.STREAM if stream else fake.ANSWER)
    assert hosted.status_code == 200
    assert b'"skipped":[{"target":"up/mock","param":"tools[0].type"' in hosted.content


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [SEARCH_TOOL]}, "tools[0].type"),
        ({"input": [fake.SEARCH]}, "input[0].type"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ],
)
async def test_what_chat_lacks_is_refused_without_a_native_target(
    up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any], param: str
) -> None:
    async with served(up, "up/mock") as gateway:
        answer = await send(client, gateway, **more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not up.requests


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"messages": []}, "messages"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ],
)
async def test_the_vendors_own_storage_is_refused_everywhere(
    up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any], param: str
) -> None:
    async with served(up) as gateway:
        answer = await send(client, gateway, **more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not up.requests


@pytest.mark.parametrize(
    ("targets", "provider", "more"),
    [
        ("oai/gpt-5.2", ", native_responses: false", {}),
        ("oai/gpt-4o-search-preview", "", {}),
        ("oai/gpt-5.2", "", {"seed": 1}),
        ("classic/deployed", "", {}),
        ("up/mock", "", {}),
    ],
)
async def test_other_calls_are_translated(
    up: FaultUpstream, client: httpx.AsyncClient, targets: str, provider: str, more: dict[str, Any]
) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    async with served(up, targets, provider=provider) as gateway:
        plan = await client.post(gateway.url + RESPONSES + "/explain", json=body(**more))
    target = plan.json()["targets"][0]
    assert (target["native"], type(target["translated_because"])) == (False, str)
    assert "chat/completions" in target["request"]["url"]


async def test_a_broken_stream_ends_with_an_error_event(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    begun = b"".join(fake.EVENTS[:5])

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(begun)
        await exchange.sleep(0.05)
        await play(FIN)(exchange)

    up.on(RESPONSES, script)
    async with served(up) as gateway:
        answer = await send(client, gateway, stream=True, store=True)
        found = await client.get(f"{gateway.url}{RESPONSES}/{fake.ID}")
    assert answer.content.startswith(begun)
    error = json.loads(answer.content.removeprefix(begun).removeprefix(b"event: error\ndata: "))
    assert (error["type"], type(error["message"])) == ("error", str)
    numbers = re.findall(rb'"sequence_number": (\d+)', begun)
    assert error["sequence_number"] == int(numbers[-1]) + 1
    assert found.status_code == 404


async def test_strict_limits_bound_the_output(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(RESPONSES, fake.speaks_responses())
    async with served(up, model=", limits: { tokens: 10k/min, strict: true }") as gateway:
        answer = await send(client, gateway)
    assert answer.status_code == 200, answer.text
    assert up.requests[0].json["max_output_tokens"] > 0

"""Calls of the Messages API to Anthropic: the bytes stay unchanged, and the rules of the pipeline apply."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gateway.attempts.hedge_budget import HedgeBudget
from tests.faults.behaviours import WORDS, canned, completion, play, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import FIN, HANG, Exchange
from tests.flows.conftest import RECEIPT
from tests.flows.live import Live, eventually, live
from tests.flows.operator import digest
from tests.native import anthropic_fake as fake

VERSION = {"anthropic-version": "2023-06-01"}
SERVER_TOOL = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
STRICT = {"x-gateway-strict": "true"}
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


def config(up: FaultUpstream, targets: str = "ant/claude-opus-4-6", rest: str = "", model: str = "", provider: str = "") -> str:
    """Return a configuration with the model `m`."""
    prices = "prices: { '*': { prompt: 1, output: 2, cached: 0.5, cache_write: 3 } }"
    return f"""
providers:
  ant: {{ type: anthropic, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", {prices}{provider} }}
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: {{ targets: {targets}{model} }}
{rest}"""


def served(yaml: str) -> AbstractAsyncContextManager[Live]:
    """Serve a configuration."""
    return live(yaml, environ={"UP_KEY": fake.KEY})


def body(**more: Any) -> dict[str, Any]:
    """Return a Messages request."""
    return {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}], **more}


async def send(client: httpx.AsyncClient, gateway: Live, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Make one call as Anthropic's client does."""
    return await client.post(gateway.url + MESSAGES, json=body(**more), headers={**VERSION, **(headers or {})})


async def test_requests_and_answers_pass_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    content = [{"type": "document", "source": {"type": "file", "file_id": "file_1"}, "citations": {"enabled": True}}]
    asked = body(messages=[{"role": "user", "content": content}], tools=[SERVER_TOOL], container="container_1", temperature=0.5)
    source = json.dumps({**asked, "model": "claude-opus-4-6"}, indent=2).encode()
    headers = {**VERSION, **STRICT, "anthropic-beta": "files-api-2025-04-14", "content-type": "application/json"}
    async with served(config(up, rest="  claude-opus-4-6: ant/claude-opus-4-6")) as gateway:
        answer = await client.post(gateway.url + MESSAGES, content=source, headers=headers)
        streamed = await client.post(gateway.url + MESSAGES, json={**asked, "stream": True}, headers=headers)
        records = await gateway.records(2)
    assert (answer.status_code, answer.content) == (200, fake.ANSWER)
    assert streamed.content == fake.STREAM
    assert "x-gateway-adjusted" not in answer.headers
    sent = up.requests[0]
    assert sent.body == source
    assert up.requests[1].json == {**asked, "model": "claude-opus-4-6", "stream": True}
    assert sent.header("anthropic-beta") == "files-api-2025-04-14"
    assert sent.header("anthropic-version") == "2023-06-01"
    for record in records:
        assert (record["prompt_tokens"], record["output_tokens"]) == (13, 9)
        assert record["cost_usd"] == pytest.approx((7 + 4 * 0.5 + 2 * 3 + 9 * 2) / 1e6)


@pytest.mark.parametrize("stream", [False, True])
async def test_receipts_and_metrics_show_the_usage(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up)) as gateway:
        answer = await send(client, gateway, headers=RECEIPT, stream=stream)
        await gateway.records(1)
        tokens = {kind: gateway.count("lockgate_tokens", kind, "reported") for kind in ("prompt", "cached", "output")}
    if stream:
        finish = next(each for each in answer.text.split("\n\n") if "message_delta" in each)
        whole = json.loads(finish.split("data: ")[1])
        assert answer.content.startswith(b"".join(fake.EVENTS[:-2]))
        assert answer.content.endswith(fake.STOP)
    else:
        whole = answer.json()
    receipt = whole.pop("gateway")
    assert whole == (fake.MESSAGE if not stream else json.loads(fake.FINISH.decode().split("data: ")[1]))
    assert receipt["usage_source"] == "reported"
    assert receipt["cost_usd"] == pytest.approx(33e-6)
    assert receipt["adjustments"] == []
    assert answer.headers["x-gateway-target"] == "ant/claude-opus-4-6"
    assert tokens == {"prompt": 13, "cached": 4, "output": 9}


@pytest.mark.parametrize(
    ("headers", "provider", "expected"),
    [
        ({}, "", ("2026-10-21", None)),
        ({"anthropic-version": "2023-06-01"}, "", ("2023-06-01", 0.5)),
        ({"anthropic-version": "2026-10-21"}, "", ("2026-10-21", None)),
        ({"anthropic-version": "2026-10-21"}, ", anthropic_version: '2023-06-01'", ("2023-06-01", 0.5)),
    ],
)
async def test_the_callers_version_decides_the_rules_unless_configured(
    up: FaultUpstream, client: httpx.AsyncClient, headers: dict[str, str], provider: str, expected: tuple[str, float | None]
) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up, provider=provider)) as gateway:
        answer = await client.post(gateway.url + MESSAGES, json=body(temperature=0.5), headers={**headers, **RECEIPT})
        strict = await client.post(gateway.url + MESSAGES, json=body(temperature=0.5), headers={**headers, **STRICT})
    assert answer.status_code == 200, answer.text
    sent = up.requests[0]
    assert (sent.header("anthropic-version"), sent.json.get("temperature")) == expected
    told = {each["param"] for each in answer.json()["gateway"]["adjustments"]}
    assert ("temperature" in told) == (expected[1] is None)
    assert ("anthropic-version" in told) == bool(provider)
    assert strict.status_code == (400 if expected[1] is None else 200)


async def test_a_version_that_is_not_a_date_is_refused(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with served(config(up)) as gateway:
        answer = await client.post(gateway.url + MESSAGES, json=body(), headers={"anthropic-version": "latest"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "anthropic-version")
    assert not up.requests


FAILURES = {
    "429": fake.refused("rate_limit_error", "Slow down", 429),
    "529": fake.refused("overloaded_error", "Overloaded", 529),
    "error event before the content": fake.speaks_messages(events=(fake.START, fake.PING, fake.OVERLOADED)),
    "only the beginning": fake.speaks_messages(events=(fake.START, fake.PING), ending=FIN),
    "closed": play(FIN),
    "not a message": canned(b'{"type":"message"}'),
}
ONLY_STREAMED = ("error event before the content", "only the beginning")


@pytest.mark.parametrize(
    ("failure", "stream"),
    [(failure, stream) for failure in FAILURES for stream in (False, True) if stream or failure not in ONLY_STREAMED],
)
async def test_a_failed_native_target_falls_back_to_a_translated_one(
    up: FaultUpstream, client: httpx.AsyncClient, failure: str, stream: bool
) -> None:
    up.on(MESSAGES, FAILURES[failure])
    async with served(config(up, "[ant/claude-opus-4-6, up/mock]")) as gateway:
        answer = await send(client, gateway, stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-target"] == "up/mock"
    assert "w0 " in answer.text
    assert answer.content.startswith(b"event: message_start" if stream else b'{"id"')
    assert [request.path for request in up.requests] == [MESSAGES, CHAT]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_translated_target_falls_back_to_a_native_one(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    up.on(CHAT, sse(WORDS[0], ending=FIN) if stream else status(500))
    async with served(config(up, "[up/mock, ant/claude-opus-4-6]")) as gateway:
        answer = await send(client, gateway, stream=stream)
        only_native = await send(client, gateway, stream=stream, tools=[SERVER_TOOL], headers=RECEIPT)
    assert answer.content == (fake.STREAM if stream else fake.ANSWER)
    assert only_native.status_code == 200
    assert b'"skipped":[{"target":"up/mock","param":"tools[0].type"' in only_native.content


async def test_content_of_anthropic_alone_is_refused_without_such_a_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with served(config(up, "{ up/mock: 1, up/other: 1 }")) as gateway:
        for headers in ({}, STRICT, {"x-gateway-require-parameters": "true"}):
            answer = await send(client, gateway, tools=[SERVER_TOOL], headers=headers)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[0].type"), headers
    assert not up.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_keep_the_vendors_words(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on(MESSAGES, fake.refused("invalid_request_error", "messages.0.content.1: Bad block", 400))
    async with served(config(up)) as gateway:
        answer = await send(client, gateway, stream=stream)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "messages.0.content.1: Bad block" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("last", "ending", "kind"),
    [(fake.OVERLOADED, None, "overloaded_error"), (b"", FIN, "api_error"), (b"event: content_block_delta\nda", FIN, "api_error")],
)
async def test_a_broken_stream_ends_with_an_error_event(
    up: FaultUpstream, client: httpx.AsyncClient, last: bytes, ending: Any, kind: str
) -> None:
    begun = fake.EVENTS[:5]

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(b"".join(begun))
        await exchange.sleep(0.05)
        if last:
            await exchange.chunk(last)
        await play(ending or FIN)(exchange)

    up.on(MESSAGES, script)
    async with served(config(up)) as gateway:
        answer = await send(client, gateway, stream=True)
        record = (await gateway.records(1))[0]
    assert answer.content.startswith(b"".join(begun))
    rest = answer.content.removeprefix(b"".join(begun))
    assert rest.startswith(b"event: error\ndata: ")
    error = json.loads(rest.split(b"data: ")[1])
    assert (error["type"], error["error"]["type"]) == ("error", kind)
    assert (record["prompt_tokens"], record["output_tokens"], record["estimated"]) == (13, 2, True)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/v2/chat"])
async def test_a_broken_stream_is_billed_alike_in_every_api(up: FaultUpstream, client: httpx.AsyncClient, path: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(b"".join(fake.EVENTS[:5]))
        await play(FIN)(exchange)

    up.on(MESSAGES, script)
    chat = {"max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    said: dict[str, Any] = {"input": "hi"} if path == "/v1/responses" else chat
    async with served(config(up)) as gateway:
        await client.post(gateway.url + path, json={"model": "m", "stream": True, **said})
        record = (await gateway.records(1))[0]
    assert (record["prompt_tokens"], record["cached_tokens"], record["output_tokens"], record["estimated"]) == (13, 4, 2, True)


async def test_prompt_cache_is_filled_without_an_answer(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up)) as gateway:
        answer = await send(client, gateway, max_tokens=0)
    assert answer.content == fake.ANSWER
    assert json.loads(up.requests[0].body)["max_tokens"] == 0


async def test_the_first_attempt_to_answer_wins_a_hedge_of_both_kinds(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(MESSAGES, play(HANG))
    async with served(config(up, "[ant/claude-opus-4-6, up/mock]", model=", hedge: 10ms")) as gateway:
        gateway.gateway.generation.pipeline.failover._hedges._budgets["m"] = full_budget()
        answer = await send(client, gateway, stream=True)
        up.on(CHAT, play(HANG))
        up.on(MESSAGES, fake.speaks_messages())
        native = await send(client, gateway, stream=True)
    assert (answer.headers["x-gateway-target"], "w0 " in answer.text) == ("up/mock", True)
    assert native.content == fake.STREAM


def full_budget() -> HedgeBudget:
    """Return a hedge budget that allows some hedges."""
    budget = HedgeBudget()
    for _ in range(10):
        budget.earn(1.0)
    return budget


async def test_a_caller_that_disconnects_ends_the_upstream_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(MESSAGES, fake.speaks_messages(events=fake.EVENTS[:5], ending=HANG))
    async with served(config(up)) as gateway:
        async with client.stream("POST", gateway.url + MESSAGES, json=body(stream=True), headers=VERSION) as answer:
            async for _ in answer.aiter_bytes():
                break
        await eventually(lambda: up.requests[0].left)
        record = (await gateway.records(1))[0]
    assert record["prompt_tokens"] == 13


TRANSLATED = {
    "continued streams": (", continue_on_cut: true", {"stream": True}),
    "a context window": (", context: { overflow: truncate }", {}),
    "a repair of JSON": (", json_repair: true", {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
    "a parameter of chat": ("", {"seed": 1}),
    "a stop string that stays": ("", {"stop_sequences": ["x"], "include_stop_str_in_output": True}),
    "a policy of the caller": ("", {"context_length_exceeded_behavior": "truncate"}),
}


@pytest.mark.parametrize("case", TRANSLATED)
async def test_what_the_gateway_does_itself_is_translated(up: FaultUpstream, client: httpx.AsyncClient, case: str) -> None:
    model, more = TRANSLATED[case]
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up, model=model)) as gateway:
        answer = await send(client, gateway, **more)
        plan = await client.post(gateway.url + MESSAGES + "/explain", json=body(**more), headers=VERSION)
    assert answer.status_code == 200, answer.text
    assert answer.content not in (fake.ANSWER, fake.STREAM)
    assert "It is Bern." in answer.text.replace('"}}\n', "") or more.get("stream")
    target = plan.json()["targets"][0]
    assert (target["native"], type(target["translated_because"])) == (False, str)


async def test_a_plan_shows_the_native_request(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    asked = body(tools=[SERVER_TOOL], temperature=0.5)
    async with served(config(up, "[ant/claude-opus-5, up/mock]")) as gateway:
        answer = await client.post(gateway.url + MESSAGES + "/explain", json=asked, headers=VERSION)
    native, translated = answer.json()["targets"]
    assert native["native"] is True
    assert native["request"]["body"] == {**{name: asked[name] for name in asked if name != "temperature"}, "model": "claude-opus-5"}
    assert native["request"]["headers"]["anthropic-version"] == "2023-06-01"
    assert fake.KEY not in answer.text
    assert [each["param"] for each in native["adjustments"]] == ["temperature"]
    assert translated["error"]["param"] == "tools[0].type"


@pytest.mark.parametrize(("limit", "status_code"), [("requests: 1/min", 429), ("tokens: 40/min", 429), ("tokens: 4000/min", 200)])
async def test_limits_count_native_calls(up: FaultUpstream, client: httpx.AsyncClient, limit: str, status_code: int) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    token = "lg-a-0123456789abcdef"
    keys = f"keys:\n  team: {{ hash: '{digest(token)}', limits: {{ {limit} }} }}\n"
    async with served(config(up, rest=keys)) as gateway:
        headers = {"x-api-key": token}
        first = await send(client, gateway, headers=headers, max_tokens=20)
        second = await send(client, gateway, headers=headers, max_tokens=20)
    assert (first.status_code, second.status_code) == (200, status_code)
    assert token not in str(up.requests[0].headers)


async def test_a_strict_limit_refuses_content_without_a_bound(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    token = "lg-a-0123456789abcdef"
    keys = f"keys:\n  team: {{ hash: '{digest(token)}', limits: {{ tokens: 4000/min, strict: true }} }}\n"
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up, rest=keys)) as gateway:
        plain = await send(client, gateway, headers={"x-api-key": token})
        unbounded = await send(client, gateway, headers={"x-api-key": token}, tools=[SERVER_TOOL])
    assert plain.content == fake.ANSWER
    assert (unbounded.status_code, unbounded.json()["error"]["param"]) == (400, "tools[0].type")


async def test_a_mirror_gets_the_native_request(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up, "up/mock", model=", mirror: { target: ant/claude-opus-4-6 }")) as gateway:
        answer = await send(client, gateway, metadata={"user_id": "u"})
        await eventually(lambda: any(request.path == MESSAGES and request.finished for request in up.requests))
    assert answer.headers["x-gateway-target"] == "up/mock"
    sent = next(request.json for request in up.requests if request.path == MESSAGES)
    assert sent == body(model="claude-opus-4-6", metadata={"user_id": "u"})


@pytest.mark.parametrize("events", [fake.EVENTS, fake.EVENTS[:-1]], ids=["complete", "without message_stop"])
async def test_usage_is_known_once_the_answer_has_a_stop_reason(
    up: FaultUpstream, client: httpx.AsyncClient, events: tuple[bytes, ...]
) -> None:
    up.on(MESSAGES, fake.speaks_messages(events=events))
    asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True, "stream_options": {"include_usage": True}}
    async with served(config(up)) as gateway:
        answer = await client.post(gateway.url + CHAT, json=asked)
        await send(client, gateway, stream=True)
        records = await gateway.records(2)
    *chunks, done = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    usages = [usage for chunk in chunks if (usage := json.loads(chunk).get("usage"))]
    assert done == "[DONE]"
    assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages] == [(13, 9)]
    assert [(record["prompt_tokens"], record["output_tokens"]) for record in records] == [(13, 9), (13, 9)]


async def test_a_translated_message_divides_cache_writes_as_anthropic_does(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    cache = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}
    said = {**fake.MESSAGE, "usage": {"input_tokens": 1, "output_tokens": 3, "cache_creation_input_tokens": 7, "cache_creation": cache}}
    final = {**fake.MESSAGE["usage"], "cache_creation_input_tokens": 7, "cache_creation": cache}
    finish = fake.event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=final)
    events = (*fake.EVENTS[:-2], finish, fake.STOP)
    up.on(MESSAGES, fake.speaks_messages(json.dumps(said).encode(), events))
    async with served(config(up)) as gateway:
        answer = await send(client, gateway, seed=1)
        streamed = await send(client, gateway, seed=1, stream=True)
    assert answer.json()["usage"]["cache_creation"] == cache
    last = next(each for each in streamed.text.split("\n\n") if "message_delta" in each)
    assert json.loads(last.split("data: ")[1])["usage"]["cache_creation"] == cache


async def test_a_chat_call_to_anthropic_is_translated_as_before(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    up.on(CHAT, canned(completion("chat")))
    async with served(config(up)) as gateway:
        answer = await client.post(gateway.url + CHAT, json=body())
    assert answer.json()["choices"][0]["message"]["content"] == "I search.It is Bern."


async def test_deadlines_hold_before_and_after_the_first_content(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    provider = ", first_byte_timeout: 1s, idle_timeout: 200ms"
    async with served(config(up, "[ant/claude-opus-4-6, up/mock]", provider=provider)) as gateway:
        up.on(MESSAGES, fake.speaks_messages(events=(fake.START, fake.PING), ending=HANG))
        silent = await send(client, gateway, stream=True)
        up.on(MESSAGES, fake.speaks_messages(events=fake.EVENTS[:5], ending=HANG))
        stalled = await send(client, gateway, stream=True)
    assert silent.headers["x-gateway-target"] == "up/mock"
    assert stalled.content.startswith(b"".join(fake.EVENTS[:5]))
    assert json.loads(stalled.content.rpartition(b"data: ")[2])["error"]["type"] == "timeout_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequences_are_those_of_the_provider(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    stopped = {"stop_reason": "stop_sequence", "stop_sequence": "Z"}
    finish = fake.event("message_delta", delta=stopped, usage=fake.MESSAGE["usage"])
    answer = json.dumps({**fake.MESSAGE, **stopped}).encode()
    up.on(MESSAGES, fake.speaks_messages(answer, (*fake.EVENTS[:-2], finish, fake.STOP)))
    async with served(config(up)) as gateway:
        said = await send(client, gateway, stream=stream, stop_sequences=["Z"], headers=RECEIPT, timeout_microseconds=9_000_000)
    assert b'"stop_matched":"Z"' in said.content
    assert up.requests[0].json["stop_sequences"] == ["Z"]
    assert "timeout_microseconds" not in up.requests[0].json


async def test_usage_that_is_not_reported_is_estimated(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    bare = json.dumps({**fake.MESSAGE, "usage": None}).encode()
    up.on(MESSAGES, fake.speaks_messages(bare, (*fake.EVENTS[2:-2], fake.event("message_delta", delta={"stop_reason": "end_turn"}))))
    async with served(config(up)) as gateway:
        for stream in (False, True):
            assert (await send(client, gateway, stream=stream)).status_code == 200
        records = await gateway.records(2)
    for record in records:
        assert record["estimated"]
        assert min(record["prompt_tokens"], record["output_tokens"]) > 0


@pytest.mark.parametrize("targets", ["[up/mock, ant/claude-opus-4-6]", "{ up/mock: 1, ant/claude-opus-4-6: 1 }"])
async def test_only_a_native_target_honours_every_parameter(up: FaultUpstream, client: httpx.AsyncClient, targets: str) -> None:
    up.on(MESSAGES, fake.speaks_messages())
    async with served(config(up, targets)) as gateway:
        for headers in (STRICT, {"x-gateway-require-parameters": "true"}):
            answer = await send(client, gateway, tools=[SERVER_TOOL], headers=headers)
            assert answer.content == fake.ANSWER, headers
        for _ in range(4):
            answer = await send(client, gateway, tools=[SERVER_TOOL], speed=None)
            assert answer.content == fake.ANSWER
    assert {request.path for request in up.requests} == {MESSAGES}

"""Calls of the Messages API over HTTP: the pipeline's features work, and all responses have Anthropic's format."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from gateway.attempts.count_prompt import PromptCount
from gateway.explain.count_tokens import count_tokens
from gateway.explain.read import read_call
from gateway.server.error_responses import uses_messages_api
from tests.dialects.messages_api.grammar import read_events, read_message
from tests.faults.behaviours import broken_by, canned, chat_chunk, completion, play, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import FIN, HANG
from tests.flows.conftest import RECEIPT, one_model, serving
from tests.flows.live import Live, live
from tests.flows.operator import digest
from tests.flows.test_hedge_flow import hedged, warm

TOKEN = "lg-a-0123456789abcdef"
VERSION = {"anthropic-version": "2023-06-01"}
KEYS = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ requests: 1/min }} }}\n"
STRICT = {"x-gateway-strict": "true"}


async def send(
    client: httpx.AsyncClient, gateway: Live, *, headers: dict[str, str] | None = None, path: str = "/v1/messages", **more: Any
) -> httpx.Response:
    """Make one call as Anthropic's client does."""
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}], **more}
    return await client.post(gateway.url + path, json=body, headers={**VERSION, **(headers or {})})


async def message_of(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """Return the message of a JSON answer or of a stream."""
    assert answer.status_code == 200, answer.text
    return read_message(answer.content) if stream else answer.json()


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message."""
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


PATHS = ("/v1/messages", "/messages", "/anthropic/v1/messages", "/anthropic/messages", "/v1/messages?beta=true")


async def test_a_call_is_answered_with_a_message_on_every_path(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for path in PATHS:
            for stream in (False, True):
                answer = await send(client, gateway, path=path, stream=stream, headers=STRICT, system="Be brief.")
                message = await message_of(answer, stream=stream)
                assert (text_of(message), message["stop_reason"]) == ("w0 w1 w2 w3 w4 ", "end_turn")
                assert answer.headers["request-id"] == answer.headers["x-request-id"]
                usage = message["usage"]
        records = await gateway.records(2 * len(PATHS))
    assert {record["status"] for record in records} == {200}
    record = records[-1]
    assert (usage["output_tokens"], usage["input_tokens"]) == (record["output_tokens"], record["prompt_tokens"])
    sent = up.requests[0].json
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    assert "anthropic-version" not in up.requests[0].headers


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
async def test_both_kinds_of_key_are_accepted(up: FaultUpstream, client: httpx.AsyncClient, header: str) -> None:
    key = TOKEN if header == "x-api-key" else f"Bearer {TOKEN}"
    async with serving(up, KEYS) as gateway:
        first, second = [await send(client, gateway, headers={header: key}) for _ in range(2)]
        unknown = await send(client, gateway, headers={header: key + "x"})
        without = await send(client, gateway)
        outside = await client.get(gateway.url + "/v1/messages/batches", headers={header: key + "x"})
    assert (first.status_code, first.headers["anthropic-ratelimit-requests-limit"]) == (200, "1")
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.headers["anthropic-ratelimit-requests-reset"])
    assert not any(name.startswith("x-ratelimit") for name in first.headers)
    assert (second.status_code, second.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(second.headers["retry-after"]) > 0
    for refused in (unknown, without, outside):
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
        assert refused.json()["request_id"] == refused.headers["request-id"]
    assert TOKEN not in second.text + unknown.text
    assert len(up.requests) == 1
    assert TOKEN not in str(up.requests[0].headers)


@pytest.mark.parametrize(
    ("method", "path", "code", "kind"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("PUT", "/anthropic/v1/messages", 405, "invalid_request_error"),
        ("GET", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/anthropic/v1/files", 404, "not_found_error"),
        ("GET", "/v1/models/none", 404, "not_found_error"),
    ],
)
async def test_errors_of_paths_have_anthropics_form(
    up: FaultUpstream, client: httpx.AsyncClient, method: str, path: str, code: int, kind: str
) -> None:
    async with serving(up) as gateway:
        answer = await client.request(method, gateway.url + path, headers=VERSION)
    error = answer.json()
    assert (answer.status_code, error["type"], error["error"]["type"]) == (code, "error", kind)
    assert error["request_id"] == answer.headers["request-id"]
    assert "allow" in answer.headers or code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": ""}]}]},
         "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"api_base": "http://x"}, "api_base"),
        ({"model": 1}, "model"),
    ],
)  # fmt: skip
async def test_bad_requests_name_the_callers_parameter(
    up: FaultUpstream, client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    async with serving(up) as gateway:
        answer = await send(client, gateway, **body)
        error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert up.requests == []


@pytest.mark.parametrize("source", [b"", b"[]", b"{", b'{"model":"m","model":"n"}', b'{"a":"\xff"}', b"[" * 20_000])
async def test_body_that_is_not_an_object_is_refused(up: FaultUpstream, client: httpx.AsyncClient, source: bytes) -> None:
    async with serving(up) as gateway:
        answer = await client.post(gateway.url + "/v1/messages", content=source, headers={**VERSION, "content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("stream", [False, True])
async def test_losses_are_on_the_receipt_and_refused_in_strict_mode(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    more: dict[str, Any] = {"stream": stream, "metadata": {"user_id": "u", "tags": [1]}, "top_k": 3}
    async with serving(up, kind="openai") as gateway:
        answer = await send(client, gateway, headers=RECEIPT, **more)
        strict = await send(client, gateway, headers=STRICT, **more)
    receipt = read_events(answer.content)[-2]["gateway"] if stream else answer.json()["gateway"]
    changed = {each["param"]: each["action"] for each in receipt["adjustments"]}
    assert changed["metadata.tags"] == changed["top_k"] == "drop"
    assert "metadata.tags" in answer.headers["x-gateway-adjusted"]
    assert (strict.status_code, strict.json()["error"]["param"]) == (400, "metadata.tags")


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequences_end_the_text_and_are_named(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with serving(up) as gateway:
        message = await message_of(await send(client, gateway, stream=stream, stop_sequences=["w2 w3", "x"]), stream=stream)
    assert text_of(message) == "w0 w1 "
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "w2 w3")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_target_falls_back(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    yaml = f"""
providers:
  down: {{ type: openai, base_url: "http://127.0.0.1:{free_port()}/v1", api_key: "${{K}}" }}
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{K}}" }}
models:
  m: [down/a, up/mock]
"""
    async with live(yaml, environ={"K": "sk-k"}) as gateway:
        answer = await send(client, gateway, stream=stream, headers=RECEIPT)
    assert text_of(await message_of(answer, stream=stream)) == "w0 w1 w2 w3 w4 "
    assert (answer.headers["x-gateway-target"], answer.headers["x-gateway-attempts"]) == ("up/mock", "2")


async def test_a_cut_stream_is_continued_by_another_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = f"""
providers:
  a: {{ type: vllm, base_url: "{up.base_url}", api_key: "${{K}}" }}
  b: {{ type: vllm, base_url: "{up.base_url}", api_key: "${{K}}" }}
models:
  m: {{ targets: [a/x, b/y], continue_on_cut: true }}
"""
    rest = sse(chat_chunk(" more"), chat_chunk(finish="stop"), b"[DONE]")
    up.once(sse(chat_chunk("some"), ending=FIN))
    up.once(rest)
    async with live(yaml, environ={"K": "sk-k"}) as gateway:
        message = read_message((await send(client, gateway, stream=True)).content)
    assert text_of(message) == "some more"
    assert message["usage"]["output_tokens"] > 0


async def test_a_cut_stream_ends_with_an_error_event(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", broken_by(before=(chat_chunk("some"),)))
    async with serving(up) as gateway:
        answer = await send(client, gateway, stream=True)
    events = read_events(answer.content)
    assert [event["type"] for event in events][:2] == ["message_start", "content_block_start"]
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] in ("api_error", "timeout_error")
    assert events[-1]["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("code", "expected", "kind"),
    [(400, 400, "invalid_request_error"), (429, 429, "rate_limit_error"), (500, 502, "api_error"), (529, 503, "overloaded_error")],
)
async def test_upstream_errors_have_anthropics_form(
    up: FaultUpstream, client: httpx.AsyncClient, code: int, expected: int, kind: str
) -> None:
    up.on("/v1/chat/completions", status(code))
    async with serving(up) as gateway:
        answer = await send(client, gateway, headers=RECEIPT)
    assert (answer.status_code, answer.json()["error"]["type"]) == (expected, kind)
    assert answer.json()["gateway"]["target"] == "up/mock"


async def test_an_answer_that_cannot_be_translated_is_an_upstream_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    body = b'{"choices":[{"index":0,"message":{"content":"a","thinking_blocks":[1]},"finish_reason":"stop"}]}'
    up.on("/v1/chat/completions", canned(body))
    async with serving(up) as gateway:
        answer = await send(client, gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_bad_response")


async def test_an_output_format_is_json_mode(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    up.on("/v1/chat/completions", canned(completion('{"a": 1}')))
    async with serving(up, kind="openai") as gateway:
        answer = await send(client, gateway, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert json.loads(text_of(answer.json())) == {"a": 1}
    assert up.requests[0].json["response_format"]["json_schema"]["schema"] == schema


async def test_a_conversation_is_fitted_into_the_context_window(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    turns = [{"role": role, "content": "word " * 300} for role in ("user", "assistant") * 4] + [{"role": "user", "content": "last"}]
    yaml = f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{K}}" }}
models:
  m: {{ targets: [up/mock], context: {{ overflow: truncate, window: 1000 }} }}
"""
    async with live(yaml, environ={"K": "sk-k"}) as gateway:
        answer = await send(client, gateway, messages=turns, headers=RECEIPT)
    assert answer.status_code == 200, answer.text
    sent = up.requests[0].json["messages"]
    assert sent[-1] == {"role": "user", "content": "last"}
    assert len(sent) < len(turns)
    assert answer.json()["gateway"]["context"]["evicted"]


async def test_models_are_listed_in_the_callers_form(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "  other: up/other\n") as gateway:
        listed = (await client.get(gateway.url + "/v1/models?limit=1", headers=VERSION)).json()
        below = (await client.get(gateway.url + "/anthropic/v1/models")).json()
        one = (await client.get(gateway.url + "/v1/models/m", headers=VERSION)).json()
        openai = (await client.get(gateway.url + "/v1/models")).json()
        wrong = await client.get(gateway.url + "/v1/models?limit=0", headers=VERSION)
    assert ([model["id"] for model in listed["data"]], listed["has_more"], listed["last_id"]) == (["m"], True, "m")
    assert [model["id"] for model in below["data"]] == ["m", "other"]
    assert (one["type"], one["id"], openai["object"]) == ("model", "m", "list")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "limit")


@pytest.mark.parametrize(("kind", "model", "how"), [("openai", "gpt-4o", "exact"), ("mistral", "x", "estimated")])
async def test_tokens_are_counted_without_a_call(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, model: str, how: str
) -> None:
    yaml = f"""
providers:
  up: {{ type: {kind}, base_url: "{up.base_url}", api_key: "${{K}}" }}
models:
  m: up/{model}
"""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}
    async with live(yaml, environ={"K": "sk-k"}) as gateway:
        short = await client.post(gateway.url + "/v1/messages/count_tokens", json=body, headers=VERSION)
        long = await client.post(gateway.url + "/anthropic/v1/messages/count_tokens", json={**body, "system": "word " * 50})
        wrong = await client.post(gateway.url + "/v1/messages/count_tokens", json={**body, "messages": []})
    assert (short.status_code, short.json()["gateway"]["count"]) == (200, how)
    assert long.json()["input_tokens"] > short.json()["input_tokens"] + 50 > 50
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "messages")
    assert up.requests == []


async def test_a_slow_target_is_hedged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        up.on(lambda request: request.model == "first", play(HANG))
        answers = [await send(client, gateway, stream=stream) for stream in (True,)]
    for answer in answers:
        assert answer.headers["x-gateway-target"] == "up/second"
        assert text_of(read_message(answer.content)) == "w0 w1 w2 w3 w4 "


@pytest.mark.parametrize("limit", ["tokens: 60/min", "spend: 1 USD/month", "concurrent: 1"])
async def test_limits_apply_as_they_do_for_chat(up: FaultUpstream, client: httpx.AsyncClient, limit: str) -> None:
    keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ {limit} }} }}\n"
    prices = "prices: { mock: { prompt: 10, output: 19000 } }"
    yaml = one_model(up, keys).replace("api_key:", f"{prices}, api_key:")
    async with live(yaml, environ={"UP_KEY": "sk-up"}) as gateway:
        answers = [await send(client, gateway, headers={"x-api-key": TOKEN}, stream=stream) for stream in (True, False)]
    first, second = answers
    assert first.status_code == 200, first.text
    if limit.startswith("concurrent"):
        assert second.status_code == 200  # the first call is complete
    else:
        assert (second.status_code, second.json()["error"]["type"]) == (429, "rate_limit_error")


async def test_a_plan_explains_a_messages_request(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    body = {"model": "m", "max_tokens": 5, "system": "s", "messages": [{"role": "user", "content": "hi"}], "stop_sequences": ["a"]}
    async with serving(up) as gateway:
        url = gateway.url + "/v1/messages/explain"
        plan = (await client.post(url, json={**body, "metadata": {"x": 1}}, headers=VERSION)).json()
        wrong = await client.post(url, json={**body, "stop_sequences": [1]}, headers=VERSION)
    (target,) = plan["targets"]
    assert [message["role"] for message in target["request"]["body"]["messages"]] == ["system", "user"]
    assert target["request"]["body"]["stop"] == ["a"]
    assert [each["param"] for each in target["adjustments"]] == ["metadata.x"]
    assert wrong.json()["error"]["param"] == "stop_sequences[0]"
    assert wrong.json()["error"]["message"].startswith("'stop_sequences[0]'")


async def test_a_caller_that_disconnects_ends_the_upstream_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse(chat_chunk("one "), ending=HANG))
    async with serving(up) as gateway:
        body = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with client.stream("POST", gateway.url + "/v1/messages", json=body) as answer:
            async for line in answer.aiter_lines():
                if "text_delta" in line:
                    break
        record = (await gateway.records(1))[0]
    assert record["aborted"] == "mid"


async def test_evicted_messages_are_those_of_the_caller(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    turns = [{"role": role, "content": "word " * 300} for role in ("user", "assistant") * 4] + [{"role": "user", "content": "last"}]
    yaml = one_model(up).replace("m: up/mock", "m: { targets: [up/mock], context: { overflow: truncate, window: 1000 } }")
    async with live(yaml, environ={"UP_KEY": "sk-up"}) as gateway:
        plain = await send(client, gateway, messages=turns, headers=RECEIPT)
        prompted = await send(client, gateway, messages=turns, headers=RECEIPT, system="Be brief.")
        streamed = await send(client, gateway, messages=turns, headers=RECEIPT, system="Be brief.", stream=True)
    evicted = [answer.json()["gateway"]["context"]["evicted"] for answer in (plain, prompted)]
    evicted.append(read_events(streamed.content)[-2]["gateway"]["context"]["evicted"])
    assert evicted[0][0] == 0
    assert evicted == [evicted[0]] * 3


def test_the_helpers_are_importable() -> None:
    assert PromptCount(1, exact=True, tokenizer="t").exact
    assert callable(count_tokens)
    assert callable(read_call)
    assert callable(uses_messages_api)

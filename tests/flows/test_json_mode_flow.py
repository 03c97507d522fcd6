"""JSON mode: emulated with an instruction if the provider has none, then checked, truncated, flagged and repaired."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import chat_chunk, play, sse
from tests.faults.upstream_server import FIN, Exchange, FaultUpstream, Script, canned, status
from tests.flows.conftest import RECEIPT, chat, post_as, post_chat, serving
from tests.flows.live import Live
from tests.support.apis import CHAT_API, CONVERSATIONS, EACH_WAY, MESSAGES_API, Api, Told

JSON_OBJECT = {"type": "json_object"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
NO_JSON_MODE = "goodfire"
"""A provider type without response_format."""


def answer_with(text: str, finish: str = "stop") -> Script:
    """Return a script that answers with this text, as JSON or as a stream of two chunks."""
    half = len(text) // 2
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    completion = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice], "usage": usage}

    async def script(exchange: Exchange) -> None:
        chunks = (chat_chunk(text[:half]), chat_chunk(text[half:]), chat_chunk(finish=finish), b"[DONE]")
        await (sse(*chunks) if exchange.request.json.get("stream") else canned(json.dumps(completion).encode()))(exchange)

    return script


async def ask(
    client: httpx.AsyncClient, gateway: Live, *, api: Api = CHAT_API, **more: Any
) -> tuple[str, str | None, list[str], Told]:
    """Send one call. Return text, finish reason, warnings about response_format, and all that the caller reads."""
    answer = await post_as(api, client, gateway, headers=RECEIPT, **{"response_format": JSON_OBJECT, **more})
    assert answer.status_code == 200, answer.text
    told = api.read(answer)
    assert told.receipt is not None
    name = api.param("response_format")
    warnings = [each["why"] for each in told.receipt["adjustments"] if (each["param"], each["action"]) == (name, "warn")]
    return told.text, told.stop, warnings, told


@EACH_WAY
@pytest.mark.parametrize("response_format", [JSON_OBJECT, JSON_SCHEMA])
async def test_provider_without_json_mode_gets_a_json_instruction(
    up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool, response_format: dict[str, Any]
) -> None:
    if api is MESSAGES_API and response_format is JSON_OBJECT:
        return  # this API has only schemas
    up.on("/v1/chat/completions", answer_with('{"city": "Paris"}'))
    async with serving(up, kind=NO_JSON_MODE) as gateway:
        text, finish, warnings, told = await ask(client, gateway, api=api, stream=stream, response_format=response_format)
    assert (text, finish, warnings) == ('{"city": "Paris"}', "stop", [])
    sent = up.requests[0].json
    assert "response_format" not in sent
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert "JSON" in sent["messages"][0]["content"]
    assert ('"city"' in sent["messages"][0]["content"]) == (response_format is JSON_SCHEMA)
    assert told.receipt is not None
    adjustments = {(each["param"], each["action"]) for each in told.receipt["adjustments"]}
    assert (api.param("response_format"), "drop") in adjustments
    assert "set_default" in {action for _, action in adjustments}


async def test_json_instruction_is_appended_to_the_callers_system_message(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", answer_with("{}"))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    async with serving(up, kind=NO_JSON_MODE) as gateway:
        await ask(client, gateway, messages=messages)
    first, second = up.requests[0].json["messages"]
    assert first["content"].startswith("Be brief.\n\nAnswer with one valid JSON object")
    assert second == messages[1]


@EACH_WAY
@pytest.mark.parametrize(
    ("response_format", "content", "problem"),
    [
        (JSON_OBJECT, "Sure! {}", "it is not JSON"),
        (JSON_SCHEMA, '{"town": 1}', "requested JSON: $: "),
        (JSON_SCHEMA, '{"city": 1}', '$.city: the value is not of type "string"'),
    ],
)
async def test_invalid_json_answer_is_returned_unchanged_with_a_warning(
    up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool, response_format: dict[str, Any], content: str, problem: str
) -> None:
    if api is MESSAGES_API and response_format is JSON_OBJECT:
        return  # this API has only schemas
    up.on("/v1/chat/completions", answer_with(content))
    async with serving(up, kind=NO_JSON_MODE) as gateway:
        text, finish, warnings, _ = await ask(client, gateway, api=api, stream=stream, response_format=response_format)
    assert (text, finish, len(warnings), len(up.requests)) == (content, "stop", 1, 1)
    assert problem in warnings[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_json_warning_for_several_choices_is_reported_once(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", answer_with("Paris it is"))
    async with serving(up, kind=NO_JSON_MODE) as gateway:
        _, _, warnings, _ = await ask(client, gateway, stream=stream, n=2)
    assert warnings == ["the answer is not the requested JSON: it is not JSON"]
    assert len(up.requests) == 2


async def test_strict_rejects_response_format_without_json_mode(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind=NO_JSON_MODE) as gateway:
        headers = {"x-gateway-strict": "true"}
        answer = await post_chat(client, gateway, response_format=JSON_OBJECT, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"], len(up.requests)) == (400, "response_format", 0)


@EACH_WAY
async def test_endless_whitespace_is_cut_and_flagged(up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool) -> None:
    up.on("/v1/chat/completions", answer_with('{"a":' + " \n" * 3000, "length"))
    async with serving(up) as gateway:
        text, finish, warnings, _ = await ask(client, gateway, api=api, stream=stream, response_format=JSON_SCHEMA)
    assert (text, finish) == ('{"a":' + " \n" * 256, "length")
    assert len(warnings) == 1
    assert "512 blank" in warnings[0]


async def test_endless_whitespace_aborts_the_upstream_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async def blank(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(chat_chunk("{"))
        while True:
            await exchange.event(chat_chunk("\n\n"), tokens=1)
            await exchange.sleep(0.001)

    up.on("/v1/chat/completions", blank)
    async with serving(up) as gateway:
        text, finish, _, _ = await ask(client, gateway, stream=True)
        await up.wait_for(lambda up: up.requests[0].left is not None)
    assert (text, finish) == ("{" + "\n" * 512, "length")


@EACH_WAY
async def test_json_truncated_by_the_output_limit_is_flagged(up: FaultUpstream, client: httpx.AsyncClient, api: Api, stream: bool) -> None:
    up.on("/v1/chat/completions", answer_with('{"city": "Pa', "length"))
    async with serving(up) as gateway:
        text, finish, warnings, _ = await ask(client, gateway, api=api, stream=stream, response_format=JSON_SCHEMA)
    assert (text, finish, warnings) == ('{"city": "Pa', "length", ["the JSON is cut off by the output limit"])


async def test_native_json_mode_is_not_checked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", answer_with("not JSON"))
    async with serving(up) as gateway:
        text, _, warnings, _ = await ask(client, gateway)
    assert (text, warnings) == ("not JSON", [])
    assert up.requests[0].json["response_format"] == JSON_OBJECT
    assert len(up.requests[0].json["messages"]) == 1


REPAIR = """  m2:
    targets: up/mock
    json_repair: true
"""


@pytest.mark.parametrize("api", CONVERSATIONS, ids=lambda api: api.name)
async def test_json_repair_retries_once_and_bills_both_answers(up: FaultUpstream, client: httpx.AsyncClient, api: Api) -> None:
    up.on("/v1/chat/completions", answer_with('{"city": "Paris"}'))
    up.once(answer_with("Paris"))
    async with serving(up, REPAIR, kind=NO_JSON_MODE) as gateway:
        text, _, warnings, told = await ask(client, gateway, api=api, model="m2", response_format=JSON_SCHEMA)
        (record,) = await gateway.records(1)
    assert text == '{"city": "Paris"}'
    assert told.tokens == (20, 10, 0, 0, 0)
    assert told.receipt is not None
    assert (record["prompt_tokens"], record["output_tokens"]) == (20, 10)
    assert [attempt["outcome"] for attempt in told.receipt["attempts"]] == ["invalid_json", "ok"]
    assert len(warnings) == 1
    assert "it is not JSON" in warnings[0]
    *_, first_answer, correction = up.requests[1].json["messages"]
    assert first_answer == {"role": "assistant", "content": "Paris"}
    assert "it is not JSON" in correction["content"]


@pytest.mark.parametrize("second", [answer_with("Paris again"), status(500)])
async def test_failed_json_repair_returns_the_answer_unchanged(up: FaultUpstream, client: httpx.AsyncClient, second: Script) -> None:
    up.on("/v1/chat/completions", second)
    up.once(answer_with("Paris"))
    async with serving(up, REPAIR, kind=NO_JSON_MODE) as gateway:
        text, _, warnings, _ = await ask(client, gateway, model="m2")
        await gateway.records(1)
    assert text in ("Paris", "Paris again")
    assert len(warnings) >= 1
    assert len(up.requests) == 2


async def test_truncated_json_repair_is_billed_for_the_received_part(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    partial = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"' + b"word" * 25
    up.on("/v1/chat/completions", play(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n" + partial, FIN))
    up.once(answer_with("Paris"))
    async with serving(up, REPAIR, kind=NO_JSON_MODE) as gateway:
        text, _, _, _ = await ask(client, gateway, model="m2")
        (record,) = await gateway.records(1)
    assert text == "Paris"
    assert (record["output_tokens"], record["estimated"]) == (5 + 25, True)


async def test_explain_shows_the_json_instruction(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind=NO_JSON_MODE) as gateway:
        plan = (await client.post(gateway.base_url + "/explain", json=chat(response_format=JSON_OBJECT))).json()
    assert "JSON" in json.dumps(plan["targets"][0])
    assert ["messages[0]", "set_default"] in [
        [adjustment["param"], adjustment["action"]] for adjustment in plan["targets"][0]["adjustments"]
    ]

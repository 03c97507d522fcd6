"""JSON mode through the whole gateway: asked for in words where there is none, checked, cut, flagged, asked again."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import FIN, chat_chunk, play, sse
from tests.faults.upstream_server import Exchange, FaultUpstream, Script, canned, status
from tests.flows.conftest import chat, events, serving

OBJECT = {"type": "json_object"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
FITTING = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
WITHOUT = "goodfire"
"""A provider type without response_format."""


def saying(text: str, finish: str = "stop") -> Script:
    """An answer with this text, as JSON or as a stream of two pieces."""
    half = len(text) // 2
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice], "usage": usage}

    async def script(exchange: Exchange) -> None:
        pieces = (chat_chunk(text[:half]), chat_chunk(text[half:]), chat_chunk(finish=finish), b"[DONE]")
        await (sse(*pieces) if exchange.request.json.get("stream") else canned(json.dumps(whole).encode()))(exchange)

    return script


async def ask(client: httpx.AsyncClient, url: str, *, stream: bool = False, **more: Any) -> tuple[str, str, list[str], dict[str, Any]]:
    """Text, finish reason, what was warned about response_format, and the answer or its last chunk."""
    body = chat(stream=stream, **{"response_format": OBJECT, **more})
    answer = await client.post(url + "/chat/completions", json=body, headers={"x-gateway-receipt": "body"})
    assert answer.status_code == 200, answer.text
    chunks = [json.loads(one) for one in events(answer.text)[:-1]] if stream else [answer.json()]
    choices = [choice for one in chunks for choice in one["choices"]]
    said = "".join(one["delta" if stream else "message"].get("content", "") for one in choices)
    notes = chunks[-1]["gateway"]["adjustments"]
    warned = [one["why"] for one in notes if (one["param"], one["action"]) == ("response_format", "warn")]
    return said, choices[-1]["finish_reason"], warned, chunks[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", [OBJECT, FITTING])
async def test_json_is_asked_for_in_words_where_the_provider_has_no_json_mode(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool, form: dict[str, Any]
) -> None:
    up.on("/v1/chat/completions", saying('{"city": "Paris"}'))
    async with serving(up, kind=WITHOUT) as gateway:
        text, finish, warned, last = await ask(client, gateway.base_url, stream=stream, response_format=form)
    assert (text, finish, warned) == ('{"city": "Paris"}', "stop", [])
    sent = up.requests[0].json
    assert "response_format" not in sent
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert "JSON" in sent["messages"][0]["content"]
    assert ('"city"' in sent["messages"][0]["content"]) == (form is FITTING)
    told = {(one["param"], one["action"]) for one in last["gateway"]["adjustments"]}
    assert {("response_format", "drop"), ("messages[0]", "set_default")} <= told


async def test_the_instruction_joins_the_callers_system_message(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", saying("{}"))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    async with serving(up, kind=WITHOUT) as gateway:
        await ask(client, gateway.base_url, messages=messages)
    first, second = up.requests[0].json["messages"]
    assert first["content"].startswith("Be brief.\n\nAnswer with one valid JSON object")
    assert second == messages[1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("form", "said", "wrong"),
    [(OBJECT, "Sure! {}", "it is not JSON"), (FITTING, '{"town": 1}', "$ lacks 'city'"), (FITTING, '{"city": 1}', "$.city must be")],
)
async def test_an_answer_that_is_wrong_is_given_as_it_is_with_a_warning(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool, form: dict[str, Any], said: str, wrong: str
) -> None:
    up.on("/v1/chat/completions", saying(said))
    async with serving(up, kind=WITHOUT) as gateway:
        text, finish, warned, _ = await ask(client, gateway.base_url, stream=stream, response_format=form)
    assert (text, finish, len(warned), len(up.requests)) == (said, "stop", 1, 1)
    assert wrong in warned[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_warning_about_several_choices_is_given_once(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", saying("Paris it is"))
    async with serving(up, kind=WITHOUT) as gateway:
        _, _, warned, _ = await ask(client, gateway.base_url, stream=stream, n=2)
    assert warned == ["the answer is not what was asked for: it is not JSON"]
    assert len(up.requests) == 2


async def test_strict_mode_refuses_where_there_is_no_json_mode(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind=WITHOUT) as gateway:
        headers = {"x-gateway-strict": "true"}
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(response_format=OBJECT), headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"], len(up.requests)) == (400, "response_format", 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_whitespace_without_end_is_cut_and_flagged(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", saying('{"a":' + " \n" * 3000, "length"))
    async with serving(up) as gateway:
        text, finish, warned, _ = await ask(client, gateway.base_url, stream=stream)
    assert (text, finish) == ('{"a":' + " \n" * 256, "length")
    assert len(warned) == 1
    assert "512 blank" in warned[0]


async def test_the_upstream_is_left_when_whitespace_runs_away(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async def blank(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(chat_chunk("{"))
        while True:
            await exchange.event(chat_chunk("\n\n"), tokens=1)
            await exchange.sleep(0.001)

    up.on("/v1/chat/completions", blank)
    async with serving(up) as gateway:
        text, finish, _, _ = await ask(client, gateway.base_url, stream=True)
        await up.wait_for(lambda up: up.requests[0].left is not None)
    assert (text, finish) == ("{" + "\n" * 512, "length")


@pytest.mark.parametrize("stream", [False, True])
async def test_json_that_the_limit_cut_off_is_flagged(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.on("/v1/chat/completions", saying('{"city": "Pa', "length"))
    async with serving(up) as gateway:
        text, finish, warned, _ = await ask(client, gateway.base_url, stream=stream)
    assert (text, finish, warned) == ('{"city": "Pa', "length", ["the JSON is cut off by the output limit"])


async def test_json_mode_of_the_provider_itself_is_left_to_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", saying("not JSON"))
    async with serving(up) as gateway:
        text, _, warned, _ = await ask(client, gateway.base_url)
    assert (text, warned) == ("not JSON", [])
    assert up.requests[0].json["response_format"] == OBJECT
    assert len(up.requests[0].json["messages"]) == 1


REPAIR = """  m2:
    targets: up/mock
    json_repair: true
"""


async def test_a_model_with_json_repair_asks_once_more_and_bills_both(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", saying('{"city": "Paris"}'))
    up.once(saying("Paris"))
    async with serving(up, REPAIR, kind=WITHOUT) as gateway:
        text, _, warned, answer = await ask(client, gateway.base_url, model="m2", response_format=FITTING)
        (record,) = await gateway.records(1)
    assert text == '{"city": "Paris"}'
    assert answer["usage"]["total_tokens"] == 30
    assert (record["prompt_tokens"], record["output_tokens"]) == (20, 10)
    assert [one["outcome"] for one in answer["gateway"]["attempts"]] == ["invalid_json", "ok"]
    assert len(warned) == 1
    assert "it is not JSON" in warned[0]
    *_, said, wrong = up.requests[1].json["messages"]
    assert said == {"role": "assistant", "content": "Paris"}
    assert "it is not JSON" in wrong["content"]


@pytest.mark.parametrize("second", [saying("Paris again"), status(500)])
async def test_repair_is_tried_once_and_the_answer_is_given_as_it_is(up: FaultUpstream, client: httpx.AsyncClient, second: Script) -> None:
    up.on("/v1/chat/completions", second)
    up.once(saying("Paris"))
    async with serving(up, REPAIR, kind=WITHOUT) as gateway:
        text, _, warned, _ = await ask(client, gateway.base_url, model="m2")
        await gateway.records(1)
    assert text in ("Paris", "Paris again")
    assert len(warned) >= 1
    assert len(up.requests) == 2


async def test_a_second_answer_that_breaks_off_is_billed_for_what_came_of_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    begun = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"' + b"word" * 25
    up.on("/v1/chat/completions", play(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n" + begun, FIN))
    up.once(saying("Paris"))
    async with serving(up, REPAIR, kind=WITHOUT) as gateway:
        text, _, _, _ = await ask(client, gateway.base_url, model="m2")
        (record,) = await gateway.records(1)
    assert text == "Paris"
    assert (record["output_tokens"], record["estimated"]) == (5 + 25, True)


async def test_explain_shows_the_instruction(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind=WITHOUT) as gateway:
        plan = (await client.post(gateway.base_url + "/explain", json=chat(response_format=OBJECT))).json()
    assert "JSON" in json.dumps(plan["targets"][0])
    assert ["messages[0]", "set_default"] in [[one["param"], one["action"]] for one in plan["targets"][0]["adjustments"]]

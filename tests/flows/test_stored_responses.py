"""Stored responses over HTTP: continued, read and deleted by the key that stored them, in memory and in Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.dialects.responses_api.grammar import assemble, parse
from tests.faults.behaviours import broken_by, canned, status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import held, one_model, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.flows.test_responses_flow import CALL, ENVIRON, post
from tests.support.redis import RedisServer

CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
UNKNOWN = "resp_" + "0" * 32


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a Redis for the tests in this file."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.kill()


@pytest.fixture(params=["memory", "redis"])
async def gateway(request: pytest.FixtureRequest, up: FaultUpstream) -> AsyncIterator[Live]:
    """Run each test with each kind of store. Return the gateway."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    async with live(f"store: {url}\n" + one_model(up), environ=ENVIRON) as running:
        yield running


def sent(up: FaultUpstream, index: int = -1) -> list[dict[str, Any]]:
    """Return the messages of a request that the upstream got."""
    messages: list[dict[str, Any]] = up.requests[index].json["messages"]
    return messages


async def path(client: httpx.AsyncClient, gateway: Live, rest: str, method: str = "GET", **more: Any) -> httpx.Response:
    """Send a request for a stored response."""
    return await client.request(method, f"{gateway.base_url}/responses/{rest}", **more)


async def test_conversation_is_continued_in_json_and_in_streams(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    first = (await post(client, gateway, input="one", instructions="Be kind.", store=True)).json()
    streamed = await post(
        client, gateway, input=[{"role": "user", "content": "two"}], previous_response_id=first["id"], store=True, stream=True
    )
    second = assemble(streamed.content)
    third = (await post(client, gateway, input="three", previous_response_id=second["id"])).json()
    said = first["output"][0]["content"][0]["text"]
    assert sent(up, 1) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "two"},
    ], "instructions are not inherited"
    assert [message["content"] for message in sent(up, 2)] == ["one", said, "two", second["output"][0]["content"][0]["text"], "three"]
    assert [each["store"] for each in (first, second, third)] == [True, True, False]
    assert [each["previous_response_id"] for each in (first, second, third)] == [None, first["id"], second["id"]]
    created = parse(streamed.content)[0]["response"]
    assert (created["id"], created["store"]) == (second["id"], True)
    assert (await path(client, gateway, second["id"])).json() == second
    assert (await path(client, gateway, third["id"])).status_code == 404


async def test_calls_and_reasoning_are_part_of_a_continued_turn(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    block = {"type": "thinking", "thinking": "Hm", "signature": "c2ln+/=="}
    message = {"role": "assistant", "content": None, "reasoning_content": "Hm", "thinking_blocks": [block], "tool_calls": [CALL]}
    up.on(CHAT, canned(json.dumps({"id": "c", "choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode()))
    first = (await post(client, gateway, tools=[TOOL], store=True)).json()
    result = {"type": "function_call_output", "call_id": "c1", "output": "12"}
    await post(client, gateway, tools=[TOOL], input=[result], previous_response_id=first["id"])
    assert sent(up) == [{"role": "user", "content": "hello"}, message, {"role": "tool", "tool_call_id": "c1", "content": "12"}]


async def test_call_that_awaits_its_result_accepts_a_text_after_it(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    items = [
        {"role": "user", "content": "hello"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "12"},
    ]
    first = (await post(client, gateway, input=items, tools=[TOOL], store=True)).json()
    await post(client, gateway, input="and now?", previous_response_id=first["id"])
    assert [message["role"] for message in sent(up)] == ["user", "assistant", "tool", "assistant", "user"]
    assert sent(up)[1]["content"] is None


async def test_input_items_are_listed_in_pages(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    first = (await post(client, gateway, input="one", store=True)).json()
    second = (await post(client, gateway, input="two", previous_response_id=first["id"], store=True)).json()
    whole = (await path(client, gateway, f"{second['id']}/input_items", params={"order": "asc"})).json()
    assert [item["content"][0]["text"] for item in whole["data"]] == ["one", first["output"][0]["content"][0]["text"], "two"]
    assert len({item["id"] for item in whole["data"]}) == 3
    page = (await path(client, gateway, f"{second['id']}/input_items", params={"limit": 2})).json()
    rest = (await path(client, gateway, f"{second['id']}/input_items", params={"limit": 2, "after": page["last_id"]})).json()
    assert [*page["data"], *rest["data"]] == whole["data"][::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    invalid = await path(client, gateway, f"{second['id']}/input_items", params={"limit": 0})
    assert (invalid.status_code, invalid.json()["error"]["param"]) == (400, "limit")


async def test_deleted_response_is_unknown_but_later_ones_continue(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    first = (await post(client, gateway, store=True)).json()
    second = (await post(client, gateway, previous_response_id=first["id"], store=True)).json()
    deleted = await path(client, gateway, first["id"], "DELETE")
    again = await path(client, gateway, first["id"], "DELETE")
    assert deleted.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert again.status_code == 404
    refused = await post(client, gateway, previous_response_id=first["id"])
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, "previous_response_id", "previous_response_not_found")
    assert (await post(client, gateway, previous_response_id=second["id"])).status_code == 200


async def test_counts_and_plans_include_the_earlier_conversation(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    first = (await post(client, gateway, input="a long message " * 20, store=True)).json()
    body = {"model": "m", "input": "two", "previous_response_id": first["id"]}
    counted = (await path(client, gateway, "input_tokens", "POST", json=body)).json()["input_tokens"]
    plan = (await path(client, gateway, "explain", "POST", json=body)).json()
    unknown = await path(client, gateway, "explain", "POST", json={**body, "previous_response_id": UNKNOWN})
    assert counted > 60
    assert len(plan["targets"][0]["request"]["body"]["messages"]) == 3
    assert unknown.json()["error"]["param"] == "previous_response_id"
    assert len(up.requests) == 1


async def test_response_belongs_to_the_key_that_stored_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    keys = f'keys:\n  a: {{ hash: "{digest("lg-a-0123456789abcdef")}" }}\n  b: {{ hash: "{digest("lg-b-0123456789abcdef")}" }}\n'
    mine, other = bearer("lg-a-0123456789abcdef"), bearer("lg-b-0123456789abcdef")
    async with serving(up, keys) as gateway:
        stored = (await post(client, gateway, mine, store=True)).json()["id"]
        answers = {
            id: [
                await path(client, gateway, id, headers=other),
                await path(client, gateway, id, "DELETE", headers=other),
                await path(client, gateway, f"{id}/input_items", headers=other),
                await post(client, gateway, other, previous_response_id=id),
            ]
            for id in (stored, UNKNOWN)
        }
        without_key = await path(client, gateway, stored)
        own = await path(client, gateway, stored, headers=mine)
    for theirs, unknown in zip(*answers.values(), strict=True):
        assert theirs.status_code == unknown.status_code in (400, 404)
        assert theirs.text.replace(stored, UNKNOWN) == unknown.text
    assert (without_key.status_code, own.json()["id"]) == (401, stored)


async def test_answer_of_a_fallback_is_stored(up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(CHAT, status(500))
    yaml = f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other: {{ type: openai-compatible, base_url: "{other.base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: [up/mock, other/mock] }}
"""
    async with live(yaml, environ=ENVIRON) as gateway:
        answered = await post(client, gateway, store=True)
        streamed = assemble((await post(client, gateway, store=True, stream=True)).content)
        found = [await path(client, gateway, id) for id in (answered.json()["id"], streamed["id"])]
    assert answered.headers["x-gateway-target"] == "other/mock"
    assert [each.json() for each in found] == [answered.json(), streamed]


async def test_broken_and_cut_answers_are_stored_with_their_status(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    error = {"error": {"message": "boom", "type": "server_error"}}
    up.on(CHAT, broken_by(error))
    failed = assemble((await post(client, gateway, store=True, stream=True)).content)
    cut = {**CALL, "function": {"name": "f", "arguments": '{"a":'}}
    message = {"role": "assistant", "content": "Hm", "tool_calls": [cut]}
    up.on(CHAT, canned(json.dumps({"id": "c", "choices": [{"message": message, "finish_reason": "length"}]}).encode()))
    incomplete = (await post(client, gateway, tools=[TOOL], store=True)).json()
    assert [(await path(client, gateway, each["id"])).json()["status"] for each in (failed, incomplete)] == ["failed", "incomplete"]
    await post(client, gateway, previous_response_id=failed["id"])
    assert [message["content"] for message in sent(up)] == ["hello", "one two ", "hello"]
    receipt = {"x-gateway-receipt": "body"}
    answered = await post(client, gateway, receipt, previous_response_id=incomplete["id"])
    assert sent(up) == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hm"}, {"role": "user", "content": "hello"}]
    assert answered.json()["gateway"]["adjustments"][0]["param"] == "previous_response_id"
    strict = await post(client, gateway, {"x-gateway-strict": "true"}, previous_response_id=incomplete["id"])
    assert (strict.status_code, strict.json()["error"]["param"]) == (400, "previous_response_id")


async def test_refused_and_abandoned_calls_store_nothing(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    release = asyncio.Event()
    async with serving(up) as gateway:
        up.on(CHAT, status(400))
        await post(client, gateway, store=True)
        up.on(CHAT, held(release))
        with pytest.raises(httpx.TimeoutException):
            await client.post(gateway.base_url + "/responses", json={"model": "m", "input": "hello", "store": True}, timeout=0.3)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        release.set()
        assert vars(gateway.gateway.shared.responses)["_records"] == {}


async def test_store_that_is_down_stops_only_calls_that_need_it(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    async with live(f"store: {own_redis.url}\n" + one_model(up), environ=ENVIRON) as gateway:
        stored = (await post(client, gateway, store=True)).json()["id"]
        own_redis.kill()
        needing = [
            await post(client, gateway, store=True),
            await post(client, gateway, store=True, stream=True),
            await post(client, gateway, previous_response_id=stored),
            await path(client, gateway, stored),
            await path(client, gateway, stored, "DELETE"),
            await path(client, gateway, f"{stored}/input_items"),
        ]
        plain = await post(client, gateway)
    for answer in needing:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "store_unavailable")
        assert "retry-after" in answer.headers
        assert str(own_redis.port) not in answer.text
        assert own_redis.socket.name not in answer.text
    assert "'store: false'" in needing[0].json()["error"]["message"]
    assert "'input'" in needing[2].json()["error"]["message"]
    assert (plain.status_code, len(up.requests)) == (200, 2)


async def test_answer_is_delivered_if_the_store_fails_during_the_call(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    async with live(f"store: {own_redis.url}\n" + one_model(up), environ=ENVIRON) as gateway:
        release = asyncio.Event()
        up.on(CHAT, held(release))
        calls = [asyncio.create_task(post(client, gateway, store=True, stream=stream)) for stream in (False, True)]
        await eventually(lambda: len(up.requests) == 2)
        own_redis.kill()
        release.set()
        answered, streamed = await asyncio.gather(*calls)
    final = assemble(streamed.content)
    assert (answered.status_code, answered.json()["store"], answered.json()["status"]) == (200, False, "completed")
    assert (final["store"], final["status"]) == (False, "completed")


async def test_calls_that_store_nothing_never_use_the_store(up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer) -> None:
    async with live(f"store: {own_redis.url}\n" + one_model(up), environ=ENVIRON) as gateway:
        await post(client, gateway, store=False)
        await post(client, gateway, input='"store": true and "previous_response_id"')
        await client.post(gateway.base_url + "/chat/completions", json={"model": "m", "messages": []})
        assert vars(gateway.gateway.shared.responses)["_client"] is None


async def test_size_of_stored_responses_is_bounded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "responses: { max_bytes: 16KiB }\n") as gateway:
        ids = [(await post(client, gateway, input="x" * 500, store=True)).json()["id"] for _ in range(20)]
        kept = [(await path(client, gateway, id)).status_code == 200 for id in ids]
        refused = await post(client, gateway, input="x" * 3000, store=True)
        too_large = (await post(client, gateway, input="x" * 1600, store=True)).json()
    assert kept == sorted(kept)
    assert 3 < sum(kept) < 14
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")
    assert too_large["store"] is False


async def test_storing_can_be_turned_off(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "responses: { max_bytes: 0 }\n") as gateway:
        refused = await post(client, gateway, store=True)
        plain = await post(client, gateway)
    assert (refused.status_code, refused.json()["error"]["param"], plain.status_code) == (400, "store", 200)
    assert "stores no responses" in refused.json()["error"]["message"]


async def test_continued_conversation_is_bounded_by_the_maximum_body(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "max_body: 2KiB\n") as gateway:
        first = (await post(client, gateway, input="x" * 1500, store=True)).json()
        refused = await post(client, gateway, input="y" * 500, previous_response_id=first["id"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")


async def test_stored_responses_survive_a_reload(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        first = (await post(client, gateway, store=True)).json()
        gateway.path.write_text(one_model(up, "  second: up/second\n"))
        await gateway.reloader.reload()
        found = await path(client, gateway, first["id"])
    assert found.json() == first

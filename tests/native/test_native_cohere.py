"""Calls of Cohere's chat API to Cohere: the bytes stay unchanged, and the rules of the pipeline apply."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

import providers
from gateway.attempts.read_request import read_request
from gateway.call import Call
from gateway.dialects.request_headers import known_headers
from gateway.dialects.table import COHERE_CHAT
from gateway.native.request import adapt_natively
from providers.base import Refusal, Target
from tests.dialects.cohere_api.grammar import read_stream
from tests.faults.behaviours import WORDS, play, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import FIN, Exchange
from tests.flows.conftest import RECEIPT
from tests.flows.live import Live, live
from tests.flows.operator import digest
from tests.native import cohere_fake as fake
from tests.support.each import each

STRICT = {"x-gateway-strict": "true"}
CHAT, COHERE = "/v1/chat/completions", "/v2/chat"
TOKEN = "lg-a-0123456789abcdef"
TARGET = Target("co/x", "co", providers.get("cohere"), "command-a-03-2025", "http://x/v2")
COST = (5 * 1 + 8 * 2) / 1e6
"""In USD, for the billed tokens. The number of processed tokens is larger."""


def served(up: FaultUpstream, targets: str = "co/command-a-03-2025", rest: str = "", model: str = "") -> AbstractAsyncContextManager[Live]:
    """Serve the model `m`."""
    address, prices = up.base_url.replace("/v1", "/v2"), "prices: { '*': { prompt: 1, output: 2 } }"
    text = f"""
providers:
  co: {{ type: cohere, base_url: "{address}", api_key: "${{UP_KEY}}", {prices} }}
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: {{ targets: {targets}{model} }}
{rest}"""
    return live(text, environ={"UP_KEY": fake.KEY})


def body(**more: Any) -> dict[str, Any]:
    """Return a request."""
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}


async def send(client: httpx.AsyncClient, gateway: Live, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Make one call as Cohere's client does."""
    return await client.post(gateway.url + COHERE, json=body(**more), headers=headers)


TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
    {"role": "assistant", "tool_plan": "I will call f.", "tool_calls": [fake.CALL], "citations": [fake.CITATION]},
    {"role": "tool", "tool_call_id": "f_1", "content": [{"type": "document", "document": {"id": "d", "data": {"sky": "blue"}}}]},
]
OWN = {"documents": ["a", {"id": "d", "data": {"x": 1}}], "citation_options": {"mode": "FAST"}, "safety_mode": "STRICT", "priority": 3}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


async def test_requests_and_answers_pass_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere())
    asked = {**body(messages=TURNS, k=3, p=0.5, logprobs=True, thinking={"type": "enabled", "token_budget": 9}, tools=TOOLS, **OWN)}
    asked |= {"stop_sequences": ["a", "b"], "strict_tools": True, "tool_choice": "REQUIRED", "max_tokens": 9, "seed": 1}
    source = json.dumps({**asked, "model": "command-a-03-2025"}, indent=2).encode()
    async with served(up, rest="  command-a-03-2025: co/command-a-03-2025") as gateway:
        answer = await client.post(gateway.url + COHERE, content=source, headers={**STRICT, "content-type": "application/json"})
        streamed = await client.post(gateway.url + COHERE, json={**asked, "stream": True}, headers=STRICT)
        records = await gateway.records(2)
    assert (answer.status_code, answer.content) == (200, fake.ANSWER)
    assert streamed.content == fake.STREAM
    assert "x-gateway-adjusted" not in answer.headers
    assert up.requests[0].body == source
    assert up.requests[1].json == {**asked, "model": "command-a-03-2025", "stream": True}
    for record in records:
        assert (record["prompt_tokens"], record["output_tokens"], record["cached_tokens"]) == (213, 9, 4)
        assert record["cost_usd"] == pytest.approx(COST)


async def test_tool_plans_and_calls_pass_byte_for_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere(fake.CALLED, fake.CALL_EVENTS))
    async with served(up) as gateway:
        answer = await send(client, gateway, tools=TOOLS)
        streamed = await send(client, gateway, tools=TOOLS, stream=True)
        records = await gateway.records(2)
    assert (answer.content, streamed.content) == (fake.CALLED, b"".join(fake.CALL_EVENTS))
    assert [record["finish"] for record in records] == [["tool_calls"]] * 2


async def test_receipts_and_metrics_show_the_usage(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere())
    async with served(up) as gateway:
        answer = (await send(client, gateway, RECEIPT)).json()
        streamed = await send(client, gateway, RECEIPT, stream=True)
        await gateway.records(2)
        tokens = {kind: gateway.count("lockgate_tokens", kind, "reported") for kind in ("prompt", "cached", "output")}
    last = json.loads(streamed.content.split(b"\n\n")[-3].partition(b"data: ")[2])
    assert streamed.content.startswith(b"".join(fake.EVENTS[:-2]))
    assert streamed.content.endswith(fake.DONE)
    for receipt in (answer.pop("gateway"), last.pop("gateway")):
        assert (receipt["usage_source"], receipt["adjustments"]) == ("reported", [])
        assert receipt["cost_usd"] == pytest.approx(COST)
    assert answer == json.loads(fake.ANSWER)
    assert last == json.loads(fake.EVENTS[-2].partition(b"data: ")[2])
    assert tokens == {"prompt": 426, "cached": 8, "output": 18}


async def test_chat_completions_are_billed_by_the_same_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere())
    async with served(up) as gateway:
        for stream in (False, True):
            answer = await client.post(gateway.url + CHAT, json=body(stream=stream))
            assert answer.status_code == 200, answer.text
        records = await gateway.records(2)
    assert [record["cost_usd"] for record in records] == [pytest.approx(COST)] * 2


@each(
    ("more", "sent", "told"),
    [
        ({"p": 1.0}, {"p": 0.99}, "p"),
        ({"k": 900}, {"k": 500}, "k"),
        ({"frequency_penalty": 1.5}, {"frequency_penalty": 1}, "frequency_penalty"),
        ({"presence_penalty": -1}, {"presence_penalty": 0}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}, "tools": TOOLS}, {"tools": TOOLS}, "response_format"),
    ],
)
def test_values_that_cohere_rejects_are_reported_and_refused_in_strict_mode(more: dict[str, Any], sent: dict[str, Any], told: str) -> None:
    call = Call("chat", COHERE, COHERE_CHAT, COHERE_CHAT.translator())
    read_request(call, [], json.dumps(body(**more)).encode(), known_headers(), strict=False)
    api = call.dialect.native
    assert api is not None
    assert call.source is not None
    assert api.fields == fake.FIELDS
    adapted = adapt_natively(call, call.source.copy(), api, TARGET, strict=False)
    given = json.loads(adapted.body.encode())
    assert {name: given[name] for name in given if name not in ("model", "messages")} == sent
    assert [each.param for each in adapted.adjustments] == [told]
    with pytest.raises(Refusal, match=told):
        adapt_natively(call, call.source.copy(), api, TARGET, strict=True)


async def test_a_failed_native_target_falls_back_to_a_translated_one(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    failures: tuple[tuple[Any, bool, bool], ...] = (
        (fake.refused("too many requests", 429), True, True),
        (status(500), True, True),
        (play(FIN), True, True),
        (fake.speaks_cohere(b'{"id":"c1"}', (fake.START, fake.ERROR)), True, True),
        (fake.speaks_cohere(json.dumps(fake.answer_of(fake.MESSAGE, "ERROR")).encode(), (fake.START,), FIN), True, True),
        (fake.speaks_cohere(events=(b'data: {"message":"overloaded"}\n\n',)), False, True),
    )
    async with served(up, "[co/command-a-03-2025, up/mock]") as gateway:
        for failure, json_fails, stream_fails in failures:
            up.on(COHERE, failure)
            for stream in (False,) * json_fails + (True,) * stream_fails:
                up.requests.clear()
                answer = await send(client, gateway, stream=stream)
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-gateway-target"] == "up/mock"
                whole = read_stream(answer.content) if stream else answer.json()
                assert whole["message"]["content"][0]["text"].startswith("w0 ")
                assert up.requests[-1].path == CHAT


async def test_a_failed_translated_target_falls_back_to_a_native_one(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere())
    async with served(up, "[up/mock, co/command-a-03-2025]") as gateway:
        for stream in (False, True):
            up.on(CHAT, sse(WORDS[0], ending=FIN) if stream else status(500))
            answer = await send(client, gateway, stream=stream)
            assert answer.content == (fake.STREAM if stream else fake.ANSWER)
        cited = await send(client, gateway, {**STRICT, **RECEIPT}, documents=["a"])
    assert cited.json()["gateway"]["skipped"][0]["param"] == "documents"
    assert cited.json()["message"] == fake.MESSAGE


async def test_a_broken_stream_ends_with_an_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    begun = b"".join(fake.EVENTS[:7])

    async with served(up) as gateway:
        for last_event in (b"", fake.ERROR, b"event: content-delta\nda"):
            has_begun = asyncio.Event()

            async def breaks(exchange: Exchange, begins: asyncio.Event = has_begun, rest: bytes = last_event) -> None:
                await exchange.start_stream()
                await exchange.chunk(begun)
                await begins.wait()
                if rest:
                    await exchange.chunk(rest)
                await play(FIN)(exchange)

            up.on(COHERE, breaks)
            whole = b""
            async with client.stream("POST", gateway.url + COHERE, json=body(stream=True)) as answer:
                async for some in answer.aiter_bytes():
                    whole += some
                    has_begun.set()
            assert whole.startswith(begun)
            last, done = whole.removeprefix(begun).split(b"\n\n")[:2]
            error = json.loads(last.removeprefix(b"event: message-end\ndata: "))
            assert (error["type"], error["delta"]["finish_reason"], done) == ("message-end", "ERROR", fake.DONE.strip())
            assert error["delta"]["error"]


async def test_errors_keep_the_vendors_words(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.refused("invalid request: tool_call_id not found", 400))
    async with served(up) as gateway:
        answer = await send(client, gateway)
    assert (answer.status_code, answer.json().keys()) == (400, {"id", "message"})
    assert "tool_call_id not found" in answer.json()["message"]


TRANSLATED: tuple[tuple[str, dict[str, Any]], ...] = (
    (", context: { overflow: truncate }", {}),
    (", json_repair: true", {"response_format": {"type": "json_object"}}),
    ("", {"top_p": 0.5}),
    ("", {"logit_bias": {}}),
    ("", {"stop_sequences": ["a"], "include_stop_str_in_output": True}),
    ("", {"stop_sequences": ["1", "2", "3", "4", "5", "6"]}),
)


async def test_what_the_gateway_does_itself_is_translated(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere())
    models = "".join(f"  m{at}: {{ targets: co/command-a-03-2025{model} }}\n" for at, (model, _) in enumerate(TRANSLATED))
    async with served(up, rest=models) as gateway:
        for at, (_, more) in enumerate(TRANSLATED):
            up.requests.clear()
            answer = await send(client, gateway, **{"model": f"m{at}", **more})
            plan = await client.post(f"{gateway.url}{COHERE}/explain", json=body(**{"model": f"m{at}", **more}))
            assert answer.status_code == 200, answer.text
            assert answer.content != fake.ANSWER
            billed = {name: len(up.requests) * count for name, count in fake.BILLED.items()}
            assert answer.json()["usage"]["billed_units"] == billed
            target = plan.json()["targets"][0]
            assert (target["native"], type(target["translated_because"])) == (False, str)


async def test_limits_count_native_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COHERE, fake.speaks_cohere())
    for limit, expected in (("requests: 1/min", 429), ("tokens: 230/min", 429), ("tokens: 9000/min, strict: true", 200)):
        keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ {limit} }} }}\n"
        async with served(up, rest=keys) as gateway:
            headers = {"authorization": f"Bearer {TOKEN}"}
            answers = [await send(client, gateway, headers, max_tokens=20, documents=["a"]) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, expected], limit
    assert all(TOKEN not in str(request.headers) for request in up.requests)

"""Bills of calls whose prompt is sent several times, because their provider returns one choice per request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import broken_by, canned, chat_chunk, play, sse
from tests.faults.upstream_server import HANG, Exchange, FaultUpstream, status
from tests.flows.live import Live, eventually, live
from tests.ledger.conftest import ENVIRON, usage, yaml

REPORTED = {"prompt_tokens": 900, "completion_tokens": 5, "total_tokens": 905}
TEXT = "a text of some tokens " * 4
ONE_EACH = "siati"
"""A provider type that returns one choice per request."""


def config(up: FaultUpstream, rest: str = "", kind: str = ONE_EACH) -> str:
    """Return a configuration whose only provider has the type `kind`."""
    return yaml(up, rest=rest).replace("openai-compatible", kind)


def body(n: int = 3, **more: Any) -> dict[str, Any]:
    """Return a call for `n` choices."""
    return {"model": "m", "messages": [{"role": "user", "content": "one two three four five six"}], "n": n, **more}


def answers_with(*reported: dict[str, Any] | None) -> Any:
    """Return a script: each request is answered with the next usage, or without one."""
    left = list(reported)

    async def answer(exchange: Exchange) -> None:
        counts = left.pop(0)
        tokens = {"usage": counts} if counts else {}
        if exchange.request.json.get("stream"):
            words = [chat_chunk(word) for word in TEXT.split()]
            end = [{**chat_chunk(None), "choices": [], **tokens}] if counts else []
            await sse(*words, chat_chunk(None, "stop"), *end, b"[DONE]")(exchange)
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice], **tokens}
        await canned(json.dumps(whole).encode())(exchange)

    return answer


async def post(client: httpx.AsyncClient, gateway: Live, **more: Any) -> httpx.Response:
    """Make a call with its receipt in the body."""
    return await client.post(gateway.base_url + "/chat/completions", json=body(**more), headers={"x-gateway-receipt": "body"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("known", [(REPORTED, None, REPORTED), (None, None, None), ({"total_tokens": 500}, REPORTED, REPORTED)])
async def test_the_prompt_of_each_request_is_billed_even_if_its_usage_is_missing(
    up: FaultUpstream, client: httpx.AsyncClient, known: tuple[dict[str, Any] | None, ...], stream: bool
) -> None:
    up.on("/v1/chat/completions", answers_with(*known))
    async with live(config(up), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, stream=stream)
        assert answer.status_code == 200, answer.text
        total = (await usage(client, gateway))["total"]
        (record,) = await gateway.records(1)
    whole = [each for each in known if each is REPORTED]
    missing = known.count(None)
    split = sum(each["total_tokens"] for each in known if each is not None and each is not REPORTED)
    tokens = total["prompt_tokens"] + total["output_tokens"]
    if split:
        assert tokens == split + sum(each["total_tokens"] for each in whole)
    else:
        prompts = total["prompt_tokens"] - 900 * len(whole)
        assert prompts % missing == 0
        assert prompts // missing > 5
        assert total["output_tokens"] - 5 * len(whole) >= missing * 20
    assert total["estimated"] == 1
    assert total["cost_nanodollars"] == total["prompt_tokens"] * 10_000 + total["output_tokens"] * 100_000
    assert round(record["cost_usd"] * 10**9) == total["cost_nanodollars"]
    assert f'"cost_usd":{record["cost_usd"]}' in answer.text
    assert '"total_tokens"' not in answer.text, "the usage of some requests is not shown as that of the call"


@pytest.mark.parametrize(("kind", "copies"), [(ONE_EACH, 3), ("openai-compatible", 1)])
async def test_a_disconnect_before_the_first_byte_bills_the_prompt_of_each_request(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, copies: int
) -> None:
    up.on(lambda request: True, play(HANG))
    async with live(config(up, kind=kind), environ=ENVIRON) as gateway:
        prompts = []
        for n in (1, 3):
            before = len(up.requests)
            asking = asyncio.create_task(client.post(gateway.base_url + "/chat/completions", json=body(n)))
            await up.wait_for(lambda up, wanted=before + (copies if n == 3 else 1): len(up.requests) == wanted)  # type: ignore[misc]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)
            prompts.append((await usage(client, gateway))["total"]["prompt_tokens"])
    assert prompts[0] > 0
    assert prompts[1] - prompts[0] == copies * prompts[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_that_are_aborted_because_another_one_failed_bill_their_prompts(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    up.on(lambda request: True, play(HANG))

    async def fail(exchange: Exchange) -> None:
        await exchange.server.wait_for(lambda up: len(up.requests) == 3)
        await status(500)(exchange)

    up.once(fail)
    text = config(up).replace("  m: up/mock", "  m: { targets: [up/mock], attempts: 1 }")
    async with live(text, environ=ENVIRON) as gateway:
        assert (await post(client, gateway, stream=stream)).status_code == 502
        total = (await usage(client, gateway))["total"]
        (record,) = await gateway.records(1)
    billed = [each["usage"]["prompt_tokens"] for each in record["billed_attempts"]]
    assert len(billed) == 2
    assert billed[0] == billed[1] > 5
    assert (total["prompt_tokens"], total["requests"]) == (sum(billed), 1)


@pytest.mark.parametrize(("kind", "copies"), [(ONE_EACH, 3), ("anthropic", 3), ("openai-compatible", 1)])
async def test_limits_reserve_the_prompt_of_each_request(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, copies: int
) -> None:
    up.on(lambda request: True, play(HANG))
    rest = "    limits: { tokens: 1M/min, spend: 100 USD/day }"
    text = config(up, rest, kind).replace("  m: up/mock", "  m:\n    targets: [up/mock]")
    async with live(text, environ=ENVIRON) as gateway:
        reserved = []
        for n in (1, 3):
            before = len(up.requests)
            asking = asyncio.create_task(client.post(gateway.base_url + "/chat/completions", json=body(n, max_tokens=10)))
            await up.wait_for(lambda up, least=before + 1: len(up.requests) >= least)  # type: ignore[misc]
            shown = (await client.get(gateway.admin_url + "/admin/limits")).json()
            (budget,) = [limit for limit in shown["data"] if limit["kind"] == "spend"]
            reserved.append(round(budget["reserved"] * 10**5))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)
    prompt = reserved[0] - 10 * 10
    assert prompt > 5
    assert reserved[1] == copies * prompt + 3 * 10 * 10


@pytest.mark.parametrize("api", ["chat/completions", "completions", "messages", "responses"])
async def test_the_receipt_of_a_broken_stream_has_the_cost_that_is_booked(
    up: FaultUpstream, client: httpx.AsyncClient, api: str
) -> None:
    up.on("/v1/chat/completions", broken_by({"error": {"message": "broken", "code": 500}}))
    async with live(config(up), environ=ENVIRON) as gateway:
        text = "one two three"
        given: dict[str, dict[str, Any]] = {"completions": {"prompt": text}, "responses": {"input": text, "store": False}}
        fields = given.get(api, {"messages": [{"role": "user", "content": text}], "max_tokens": 50})
        sent = {"model": "m", "stream": True, **fields}
        answer = await client.post(f"{gateway.base_url}/{api}", json=sent, headers={"x-gateway-receipt": "body"})
        total = (await usage(client, gateway))["total"]
        (record,) = await gateway.records(1)
    assert (total["output_tokens"], total["estimated"]) == (2, 1)
    assert round(record["cost_usd"] * 10**9) == total["cost_nanodollars"] > 200_000
    assert f'"cost_usd":{record["cost_usd"]}' in answer.text

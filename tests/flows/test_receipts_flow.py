"""Receipts: adjustments are reported in headers, bodies, streams, the log and metrics, without private content."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, RECEIPT, chat, events, post_chat, serving
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

ADJUSTED: dict[str, Any] = {"temperature": 3.5, "top_k": 7, "max_tokens": 4}


def adjustments_of(answer: dict[str, Any]) -> set[tuple[str, str]]:
    """Return parameter and action of every adjustment in a receipt."""
    return {(adjustment["param"], adjustment["action"]) for adjustment in answer["gateway"]["adjustments"]}


EXPECTED = {("temperature", "clamp"), ("top_k", "drop")}


async def test_adjustments_are_in_header_body_log_and_metrics(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="openai") as gateway:
        answer = await post_chat(client, gateway, **ADJUSTED, headers=RECEIPT)
        plain = await post_chat(client, gateway, **ADJUSTED)
        record = (await gateway.records(2))[0]
        assert gateway.count("lockgate_adjustments", "up", "top_k", "drop") == 2
    body = answer.json()
    assert adjustments_of(body) >= EXPECTED
    assert body["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "
    assert body["gateway"]["request_id"] == answer.headers["x-request-id"]
    assert body["gateway"]["usage_source"] == "reported"
    assert body["gateway"]["attempts"][0]["ms"] > 0
    assert '"top_k";drop' in answer.headers["x-gateway-adjusted"]
    assert '"temperature";clamp;from=3.5;to=' in answer.headers["x-gateway-adjusted"]
    assert "top_k:drop" in record["adjustments"]
    assert "gateway" not in plain.json()
    assert plain.headers["x-gateway-adjusted"] == answer.headers["x-gateway-adjusted"]
    sent = up.requests[0].json
    assert "top_k" not in sent
    assert sent["temperature"] == 2


async def test_stream_receipt_comes_before_done(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="openai") as gateway:
        answer = await post_chat(client, gateway, stream=True, **ADJUSTED, headers=RECEIPT)
    *_, content, last, done = events(answer.text)
    assert done == "[DONE]"
    receipt = json.loads(last)
    assert adjustments_of(receipt) >= EXPECTED
    assert (receipt["choices"], receipt["id"]) == ([], json.loads(content)["id"])
    assert '"top_k";drop' in answer.headers["x-gateway-adjusted"]


@pytest.mark.parametrize("callers", [60, pytest.param(201, marks=pytest.mark.prove)])
async def test_concurrent_callers_each_get_their_own_receipt(up: FaultUpstream, callers: int) -> None:
    up.delay = 0.02

    async def call(number: int) -> None:
        body = chat(text=f"#chunks={1 + number % 7}#", stream=number % 2 == 0, temperature=round(2.1 + number / 1000, 3))
        if number % 3 == 0:
            body["top_k"] = number
        answer = await client.post(gateway.base_url + "/chat/completions", json=body, headers=RECEIPT)
        assert answer.status_code == 200
        receipt = json.loads(events(answer.text)[-2]) if body["stream"] else answer.json()
        by_param = {adjustment["param"]: adjustment for adjustment in receipt["gateway"]["adjustments"]}
        assert by_param["temperature"]["from"] == body["temperature"]
        assert ("top_k" in by_param) == ("top_k" in body)
        assert ("top_k" in answer.headers["x-gateway-adjusted"]) == ("top_k" in body)
        assert f"from={body['temperature']}" in answer.headers["x-gateway-adjusted"]
        assert answer.text.count("w") >= 1 + number % 7

    limits = httpx.Limits(max_connections=200)
    async with (
        serving(up, kind="openai") as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60, limits=limits) as client,
    ):
        await asyncio.gather(*(call(number) for number in range(callers)))
        records = await gateway.records(callers, within=30)
        assert gateway.count("lockgate_adjustments", "temperature", "clamp") == callers
    assert len({record["id"] for record in records}) == callers
    assert sum("top_k:drop" in record["adjustments"] for record in records) == callers // 3


async def test_log_contains_no_prompt_answer_or_secret(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    private = chat(text="PROMPT-CANARY", stop=["PROMPT-CANARY"], user="u-1", logit_bias={"1": 1}, top_k="KEY-CANARY")
    streamed = chat(text="PROMPT-CANARY", stream=True, metadata={"a": "USER-CANARY"}, vendor={"x": "PROMPT-CANARY"})
    headers = {"authorization": "Bearer KEY-CANARY", "cookie": "KEY-CANARY"}
    async with serving(up, kind="openai") as gateway:
        for body in (private, streamed, private | {"top_k": 1}):
            await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)
        lines = json.dumps(await gateway.records(3))
        metrics = (await client.get(gateway.admin_url + "/metrics")).text
    assert lines.count("u-1") == 2  # the end users of an accepted and of a rejected call are logged, a prompt is not
    for text in (lines, metrics):
        assert "CANARY" not in text
        assert CREDENTIAL not in text
        assert "w0" not in text


async def test_explain_shows_the_plan_without_upstream_requests_or_secrets(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="openai") as gateway:
        answer = await client.post(gateway.base_url + "/explain", json=chat(**ADJUSTED))
    assert up.requests == []
    plan = answer.json()
    assert (plan["model"], plan["route"], plan["strict"]) == ("m", "m", False)
    target = plan["targets"][0]
    assert {(adjustment["param"], adjustment["action"]) for adjustment in target["adjustments"]} >= EXPECTED
    assert target["request"]["url"] == up.base_url + "/chat/completions"
    assert target["request"]["headers"]["authorization"] == "***"
    assert target["request"]["body"]["model"] == "mock"
    assert CREDENTIAL not in answer.text
    assert answer.headers["x-request-id"].startswith("req_")


async def test_explain_shows_the_request_of_a_call_and_masks_configured_headers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = f"""
providers:
  up: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", headers: {{ x-team-token: "${{UP_KEY}}" }} }}
models: {{ m: up/mock }}
"""
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        plan = (await client.post(gateway.base_url + "/explain", json=chat(**ADJUSTED))).json()
        await post_chat(client, gateway, **ADJUSTED)
    request = plan["targets"][0]["request"]
    assert request["headers"]["x-team-token"] == "***"
    assert CREDENTIAL not in json.dumps(plan)
    assert up.requests[0].json == request["body"]
    assert up.requests[0].header("x-team-token") == CREDENTIAL

"""Paths and rejected requests of the Responses API: prefixes, counts, plans, and errors under the caller's names."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import serving
from tests.flows.test_responses_flow import post


@pytest.mark.parametrize("prefix", ["/v1", "", "/openai/v1", "/serverless/v1"])
async def test_every_prefix_of_clients_is_served(up: FaultUpstream, client: httpx.AsyncClient, prefix: str) -> None:
    async with serving(up) as gateway:
        answered = await client.post(f"{gateway.url}{prefix}/responses", json={"model": "m", "input": "hello"})
        wrong_method = await client.get(f"{gateway.url}{prefix}/responses")
    assert (answered.status_code, wrong_method.status_code) == (200, 405)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": []}, "input", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"top_logprobs": "many"}, "top_logprobs", "invalid_type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"background": True, "store": True}, "background", "unsupported_parameter"),
        ({"store": "yes"}, "store", "invalid_type"),
        ({"previous_response_id": 3}, "previous_response_id", "invalid_type"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0]", "invalid_value"),
        ({"api_base": "http://x"}, "api_base", "unsupported_parameter"),
        ({"model": 3}, "model", "invalid_type"),
        ({"model": "unknown"}, "model", "model_not_found"),
    ],
    ids=str,
)
async def test_invalid_request_has_an_error_with_the_callers_parameter(
    up: FaultUpstream, client: httpx.AsyncClient, body: dict[str, Any], param: str, code: str
) -> None:
    async with serving(up) as gateway:
        answered = await post(client, gateway, **body)
    error = answered.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert "messages" not in error["message"]
    assert answered.status_code == (404 if code == "model_not_found" else 400)
    assert up.requests == []


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"model":"m","input":"a","input":"b"}', "duplicate_key"),
        (b'{"model":"m","input":"\xff"}', "invalid_json"),
        (b'{"model":"m","input":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
    ],
    ids=["not json", "a list", "duplicate", "not utf-8", "deep"],
)
async def test_malformed_body_is_refused_as_in_every_api(
    up: FaultUpstream, client: httpx.AsyncClient, source: bytes, code: str
) -> None:
    async with serving(up) as gateway:
        answered = await client.post(
            gateway.base_url + "/responses", content=source, headers={"content-type": "application/json"}
        )
    assert (answered.status_code, answered.json()["error"]["code"]) == (400, code)


async def test_tokens_of_the_input_are_counted(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    async with serving(up) as gateway:
        url = gateway.base_url + "/responses/input_tokens"
        short = await client.post(url, json={"model": "m", "input": "hello"})
        long = await client.post(
            url, json={"model": "m", "input": "hello", "instructions": "Be kind.", "tools": [tool]}
        )
        invalid = await client.post(url, json={"model": "m", "input": []})
        wrong_method = await client.get(url)
    counted = short.json()
    assert counted["object"] == "response.input_tokens"
    assert 0 < counted["input_tokens"] < long.json()["input_tokens"]
    assert counted["gateway"]["target"] == "up/mock"
    assert (invalid.status_code, invalid.json()["error"]["param"]) == (400, "input")
    assert "'input'" in invalid.json()["error"]["message"]
    assert wrong_method.status_code == 405
    assert up.requests == []


async def test_plan_of_a_request_has_the_callers_names(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="goodfire") as gateway:
        url = gateway.base_url + "/responses/explain"
        plan = (await client.post(url, json={"model": "m", "input": "hello", "reasoning": {"effort": "low"}})).json()
        strict = {"x-gateway-strict": "true"}
        refused = await client.post(
            url, json={"model": "m", "input": "hello", "reasoning": {"effort": "low"}}, headers=strict
        )
        invalid = await client.post(url, json={"model": "m", "input": "hello", "max_output_tokens": 0})
    assert plan["targets"][0]["adjustments"][0]["param"] == "reasoning.effort"
    assert refused.json()["targets"][0]["error"]["param"] == "reasoning.effort"
    assert invalid.json()["error"]["param"] == "max_output_tokens"
    assert "'max_output_tokens'" in invalid.json()["error"]["message"]

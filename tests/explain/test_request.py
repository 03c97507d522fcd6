"""The plan of a request: the route in order, and for each target the request that serving would send, with secrets masked."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.config.load import parse
from gateway.errors import GatewayError
from gateway.explain.request import MASKED_HEADERS
from gateway.explain.request import explain as explain_body
from gateway.keys.virtual_key import VirtualKey
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

SECRET = "sk-credential-that-must-not-show"
CONFIG = """
providers:
  cerebras: {{ api_key: "${{UP_KEY}}", base_url: "{base}/v1" }}
  goodfire: {{ api_key: "${{UP_KEY}}", base_url: "{base}/api/inference/v1" }}
  azure: {{ api_key: "${{UP_KEY}}", base_url: "{base}/openai/v1", headers: {{ x-team: "${{UP_KEY}}" }} }}
models:
  fast: cerebras/llama-3.3-70b
  goodfire: goodfire/x
  smart: [cerebras/llama-3.3-70b, goodfire/x, azure/deployment]
"""
REQUEST: dict[str, Any] = {
    "model": "smart",
    "messages": [{"role": "user", "content": "Hi " * 60}],
    "max_tokens": 7,
    "top_k": 4,
    "temperature": 0.5,
}
ENVIRON = {"UP_KEY": SECRET}


async def explain(client: httpx.AsyncClient, url: str, **more: Any) -> Any:
    """Return the response of POST /v1/explain."""
    response = await client.post(url + "/v1/explain", json={**REQUEST, **more})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    "more", [{}, {"n": 2, "seed": [1, 2]}, {"stream": True, "stop": "x"}], ids=["plain", "several", "stream"]
)
async def test_explained_request_is_the_one_that_is_sent(more: dict[str, Any]) -> None:
    async with (
        FaultUpstream() as up,
        live(CONFIG.format(base=up.origin), environ=ENVIRON) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False) as client,
    ):
        planned = (await explain(client, gateway.url, model="fast", **more))["targets"][0]["request"]
        assert up.requests == []
        response = await client.post(gateway.base_url + "/chat/completions", json={**REQUEST, "model": "fast", **more})
        assert response.status_code == 200
        sent = sorted(up.requests, key=lambda request: json.dumps(request.json.get("seed")))
    assert [request.json for request in sent] == (planned["bodies"] if "bodies" in planned else [planned["body"]])
    assert planned["url"] == up.origin + sent[0].path
    for name, value in planned["headers"].items():
        assert sent[0].header(name) == (f"Bearer {SECRET}" if value == "***" else value)


async def test_route_is_in_order_and_secrets_are_masked() -> None:
    async with (
        FaultUpstream() as up,
        live(CONFIG.format(base=up.origin), environ=ENVIRON) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False) as client,
    ):
        plan = await explain(client, gateway.url)
        assert up.ledger.accepted == 0
    assert [one["target"] for one in plan["targets"]] == ["cerebras/llama-3.3-70b", "goodfire/x", "azure/deployment"]
    assert SECRET not in json.dumps(plan)
    masked = [{name for name, value in one["request"]["headers"].items() if value == "***"} for one in plan["targets"]]
    assert masked == [{"authorization"}, {"authorization"}, {"api-key", "x-team"}]
    assert {"param": "top_k", "action": "drop"}.items() <= plan["targets"][0]["adjustments"][0].items()


async def test_unsuitable_target_has_an_error_and_the_others_have_requests() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    async with (
        live(CONFIG.format(base="http://127.0.0.1:1"), environ=ENVIRON) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False) as client,
    ):
        plan = await explain(client, gateway.url, tools=tools)
    assert ["error" in one for one in plan["targets"]] == [False, True, False]
    assert plan["targets"][1]["error"]["param"] == "tools"


async def test_a_key_gets_no_plan_for_a_model_that_it_may_not_use() -> None:
    config = parse(CONFIG.format(base="http://127.0.0.1:1").encode(), "gateway.yaml", environ=ENVIRON)
    generation = Gateway(config, CallLog(2, human=True), lambda line: None).generation
    run, source = generation.dry_run(), json.dumps(REQUEST).encode()
    plan = await explain_body(run, source, [], VirtualKey("k", frozenset({"smart"})))
    headers = plan["targets"][0]["request"]["headers"]
    assert [headers[name] for name in headers if name in MASKED_HEADERS] == ["***"]
    with pytest.raises(GatewayError) as refused:
        await explain_body(run, source, [], VirtualKey("k", frozenset({"fast"})))
    assert refused.value.status == 403


@pytest.mark.parametrize(("path", "body", "param"), [
    ("/messages", {"system": "s", "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
     "messages[0].content[0]"),
    ("/responses", {"instructions": "s", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
     "input[0].content[0]"),
])  # fmt: skip
async def test_a_refusal_has_the_words_of_the_call(path: str, body: dict[str, Any], param: str) -> None:
    async with (
        live(CONFIG.format(base="http://127.0.0.1:9"), environ=ENVIRON) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False) as client,
    ):
        config = {**body, "model": "goodfire", "max_tokens": 5, "max_output_tokens": 5}
        config.pop("max_tokens" if path == "/responses" else "max_output_tokens")
        planned = (await client.post(f"{gateway.base_url}{path}/explain", json=config)).json()["targets"][0]["error"]
        refused = (await client.post(gateway.base_url + path, json=config)).json()["error"]
    assert planned["param"] == param
    assert (planned["message"], planned["param"]) == (refused["message"], refused["param"])

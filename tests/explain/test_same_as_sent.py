"""A plan is the request that serving sends: body, headers and adjustments, context fitting included."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, receipt_of
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

TURNS = [{"role": role, "content": f"{word} " * 300} for word in ("one", "two") for role in ("user", "assistant")]
MESSAGES = [{"role": "system", "content": "Be brief."}, *TURNS, {"role": "user", "content": "And now?"}]
CONFIG = """
providers:
  openai: {{ api_key: "${{K}}", base_url: "{base}" }}
  anthropic: {{ api_key: "${{K}}", base_url: "{base}", anthropic_beta: "operator-1" }}
  friendli: {{ api_key: "${{K}}", base_url: "{base}", team: "team-0" }}
  cerebras: {{ api_key: "${{K}}", base_url: "{base}" }}
  siati: {{ api_key: "${{K}}", base_url: "{base}", headers: {{ x-team: "${{K}}" }}, forward_headers: [x-tenant] }}
models:
  gpt: openai/gpt-5-mini
  claude: anthropic/claude-sonnet-4-5
  friendli: friendli/m
  cerebras: {{ targets: cerebras/llama-3.3-70b, context: {{ overflow: truncate, window: 1000 }} }}
  siati: {{ targets: siati/m, limits: {{ tokens: 1M/min, strict: true }} }}
"""
CALL = {"index": 0, "id": "call.1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HISTORY = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "refusal": None, "annotations": [], "reasoning_content": "hm", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call.1", "content": "21"},
]
CASES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("gpt", {"max_tokens": 9_999_999, "context_length_exceeded_behavior": "truncate"}, {}),
    ("gpt", {"prompt_truncate_len": 100}, {}),
    ("gpt", {"temperature": 0.5, "stop": ["STOP"]}, {"OpenAI-Organization": "org", "x-session-affinity": "s"}),
    ("claude", {"stream": True, "n": 2}, {"anthropic-beta": "mine", "traceparent": "00-1-2-01"}),
    ("friendli", {}, {"x-friendli-team": "team-1"}),
    ("friendli", {"team": "team-2", "stream": True}, {"x-friendli-team": "team-1"}),
    ("cerebras", {}, {"queue_threshold": "100"}),
    ("cerebras", {"cf_ray": "r", "max_tokens": 50_000}, {"baggage": "a=b"}),
    *((model, {"messages": HISTORY}, {}) for model in ("gpt", "claude", "friendli", "cerebras", "siati")),
    ("siati", {"user": "ann", "n": 2, "seed": 7}, {"x-tenant": "t", "x-siati-tier": "slow"}),
]


@pytest.mark.parametrize(("model", "more", "headers"), CASES)
async def test_the_plan_is_what_a_recording_upstream_gets(model: str, more: dict[str, Any], headers: dict[str, str]) -> None:
    async with (
        FaultUpstream() as up,
        live(CONFIG.format(base=up.base_url), environ={"K": "sk-secret-credential"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client,
    ):
        body = {"model": model, "messages": MESSAGES, **more}
        explained = await client.post("/explain", json=body, headers=headers)
        assert explained.status_code == 200, explained.text
        assert up.requests == []
        plan = explained.json()["targets"][0]
        answer = await client.post("/chat/completions", json=body, headers={**headers, **RECEIPT})
        requests = sorted(up.requests, key=lambda request: str(request.json.get("seed")))
    planned = plan["request"]
    assert [request.body for request in requests] == _bodies(explained.content, planned)
    for request in requests:
        masked = {name: "***" if value == "sk-secret-credential" or "sk-secret" in value else value for name, value in request.headers}
        added = {"host", "content-length", "accept-encoding"}
        assert {name: value for name, value in masked.items() if name not in added} == planned["headers"]
    if answer.status_code == 200:
        # notes on the answer come after the adjustments of the request
        assert receipt_of(answer)["adjustments"][: len(plan["adjustments"])] == plan["adjustments"]


def _bodies(explained: bytes, planned: dict[str, Any]) -> list[bytes]:
    """Return the bodies of a plan as they would be sent."""
    bodies = planned["bodies"] if "bodies" in planned else [planned["body"]]
    encoded = [json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() for body in bodies]
    return encoded


async def test_strict_refusals_of_headers_are_planned() -> None:
    async with (
        live(CONFIG.format(base="http://127.0.0.1:9/v1"), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client,
    ):
        headers = {"x-gateway-strict": "true", "x-session-affinity": "s"}
        answer = await client.post(gateway.base_url + "/explain", json={"model": "gpt", "messages": MESSAGES}, headers=headers)
        assert answer.json()["targets"][0]["error"]["param"] == "x-session-affinity"

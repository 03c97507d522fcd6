"""Headers of callers: those forwarded to an upstream, and the x-gateway-* headers that set options of a call."""

from __future__ import annotations

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

SENT = {"cf-ray": "r1", "x-amz-cf-id": "a1", "x-delay-time": "0.5", "x-friendli-team": "t1", "cookie": "c", "x-private": "p"}
FORWARDED = {"cerebras": {"cf-ray", "x-amz-cf-id", "x-delay-time"}, "friendli": {"x-friendli-team"}, "groq": set[str]()}


@pytest.mark.parametrize("kind", list(FORWARDED))
async def test_only_headers_declared_by_the_provider_are_forwarded(kind: str) -> None:
    async with FaultUpstream() as up:
        yaml = f'providers:\n  up: {{type: {kind}, base_url: "{up.base_url}", api_key: "${{K}}"}}\nmodels:\n  m: up/x\n'
        async with (
            live(yaml, environ={"K": "k"}) as gateway,
            httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client,
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            answer = await client.post("/chat/completions", json=body, headers=SENT)
            assert answer.status_code == 200, answer.text
        assert {name for name in SENT if up.requests[0].header(name) is not None} == FORWARDED[kind]
        assert all(up.requests[0].header(name) == SENT[name] for name in FORWARDED[kind])


async def test_body_parameter_takes_precedence_over_the_header() -> None:
    async with FaultUpstream() as up:
        yaml = f'providers:\n  up: {{type: cerebras, base_url: "{up.base_url}", api_key: "${{K}}"}}\nmodels:\n  m: up/x\n'
        async with (
            live(yaml, environ={"K": "k"}) as gateway,
            httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client,
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "cf_ray": "mine"}
            answer = await client.post("/chat/completions", json=body, headers={"cf-ray": "header"})
            assert answer.status_code == 200, answer.text
        assert up.requests[0].header("cf-ray") == "mine"


GATEWAY_HEADERS = ["x-gateway-strict", "x-gateway-require-parameters", "x-gateway-receipt"]


@pytest.mark.parametrize("name", GATEWAY_HEADERS)
async def test_invalid_value_of_a_gateway_header_is_rejected(name: str) -> None:
    async with FaultUpstream() as up:
        yaml = f'providers:\n  up: {{type: openai-compatible, base_url: "{up.base_url}"}}\nmodels:\n  m: up/x\n'
        async with live(yaml) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            for value in ("maybe", "", "true;q=1", "b\u00f6dy".encode("latin-1")):
                answer = await client.post("/chat/completions", json=body, headers={name: value})
                error = answer.json()["error"]
                assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", name)
                assert name in error["message"]
                assert ("'body' or 'header'" if name == "x-gateway-receipt" else "true or false") in error["message"]
            assert up.requests == []
            for value in ("header", "BODY") if name == "x-gateway-receipt" else ("true", "False", "?1", "0", "yes"):
                answer = await client.post("/chat/completions", json=body, headers={name: value})
                assert answer.status_code == 200, answer.text
                assert ("gateway" in answer.json()) == (value == "BODY")


async def test_explain_reads_the_strict_header_like_a_chat_call() -> None:
    yaml = 'providers:\n  up: {type: openai-compatible, base_url: "http://127.0.0.1:9/v1"}\nmodels:\n  m: up/x\n'
    async with live(yaml) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post("/explain", json=body, headers={"x-gateway-strict": "?1"})).json()["strict"] is True
        assert (await client.post("/explain", json=body, headers={"x-gateway-strict": "no"})).json()["strict"] is False
        assert (await client.post("/explain", json=body, headers={"x-gateway-strict": "maybe"})).status_code == 400

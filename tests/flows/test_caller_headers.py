"""Which of a caller's headers reach an upstream: those that its provider takes, and nothing else."""

from __future__ import annotations

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live

SENT = {"cf-ray": "r1", "x-amz-cf-id": "a1", "x-delay-time": "0.5", "x-friendli-team": "t1", "cookie": "c", "x-private": "p"}
TAKEN = {"cerebras": {"cf-ray", "x-amz-cf-id", "x-delay-time"}, "friendli": {"x-friendli-team"}, "groq": set[str]()}


@pytest.mark.parametrize("kind", list(TAKEN))
async def test_only_the_headers_that_a_provider_takes_from_callers_go_on(kind: str) -> None:
    async with FaultUpstream() as up:
        yaml = f'providers:\n  up: {{type: {kind}, base_url: "{up.base_url}", api_key: "${{K}}"}}\nmodels:\n  m: up/x\n'
        async with live(yaml, environ={"K": "k"}) as gate, httpx.AsyncClient(base_url=gate.base_url) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            answer = await client.post("/chat/completions", json=body, headers=SENT)
            assert answer.status_code == 200, answer.text
        assert {name for name in SENT if up.requests[0].header(name) is not None} == TAKEN[kind]
        assert all(up.requests[0].header(name) == SENT[name] for name in TAKEN[kind])


async def test_a_parameter_of_the_body_wins_over_the_header() -> None:
    async with FaultUpstream() as up:
        yaml = f'providers:\n  up: {{type: cerebras, base_url: "{up.base_url}", api_key: "${{K}}"}}\nmodels:\n  m: up/x\n'
        async with live(yaml, environ={"K": "k"}) as gate, httpx.AsyncClient(base_url=gate.base_url) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "cf_ray": "mine"}
            answer = await client.post("/chat/completions", json=body, headers={"cf-ray": "header"})
            assert answer.status_code == 200, answer.text
        assert up.requests[0].header("cf-ray") == "mine"

"""Secrets and prompts do not leak: unique markers go through successful and failing calls, and every output for operators is searched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.faults.behaviours import canned, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Exchange
from tests.flows.live import Live, eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.trace_collector import Collector

CREDENTIAL, HEADER, COLLECTOR = "sk-canary-credential-1f8e", "canary-header-77ab", "canary-collector-3c90"
KEY, ADMIN = "lg-canary-key-5d2b01", "lg-canary-admin-9e4471"
PROMPT, ANSWER = "canary prompt, whispers", "canary answer, murmurs"
SECRETS = (CREDENTIAL, HEADER, COLLECTOR, KEY, ADMIN)


@pytest.fixture
async def up() -> AsyncIterator[FaultUpstream]:
    """Run an upstream that quotes the request, credentials included, in every kind of error."""

    async def quoting(exchange: Exchange) -> None:
        request = exchange.request
        quoted = f"{request.header('authorization')} {request.header('x-secret')} {request.body.decode()}"
        kind = str(request.model)
        error = {"message": f"refused: {quoted}", "type": quoted[:80], "param": quoted[-60:], "code": f"code {PROMPT}"}
        if kind == "html":
            await canned(f"<html>{quoted}</html>".encode(), 502, {"content-type": "text/html"})(exchange)
        elif kind == "in-band":
            await sse({"error": error})(exchange)
        elif kind == "good":
            choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": PROMPT}
            await canned(json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode())(exchange)
        else:
            message = error.pop("message")
            await status(int(kind), message, **error)(exchange)

    async with FaultUpstream() as server:
        server.on("/v1/chat/completions", quoting)
        yield server


def yaml(up: FaultUpstream, collector: Collector) -> str:
    """Return a configuration with a secret in every place that accepts one."""
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in (KEY, ADMIN)]
    models = "\n".join(f'  "{name}": up/{name}' for name in ("good", "400", "401", "429", "500", "html", "in-band"))
    return f"""
admin: {{ listen: "127.0.0.1:0", key_hash: "sha256:{hashes[1]}" }}
traces: {{ endpoint: "{collector.url}", headers: {{ x-key: "${{COLLECTOR}}" }} }}
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{CREDENTIAL}}", headers: {{ x-secret: "${{HEADER}}" }} }}
models:
{models}
keys:
  team: {{ hash: "sha256:{hashes[0]}" }}
"""


async def make_calls(gateway: Live) -> list[httpx.Response]:
    """Make successful and failing calls and return their responses."""
    answers = []
    async with httpx.AsyncClient(
        verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30, headers={"authorization": f"Bearer {KEY}"}
    ) as client:
        url = gateway.base_url + "/chat/completions"
        for model in ("good", "400", "401", "429", "500", "html", "in-band"):
            for fields in ({}, {"logit_bias": {PROMPT: 1}, "user": PROMPT, PROMPT: 1}):
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": PROMPT}],
                    "stream": model == "in-band",
                    **fields,
                }
                answers.append(await client.post(url, json=body))
        wrong = [{"role": PROMPT, "content": "x"}], [{"role": "user", "content": [{"type": PROMPT}]}], PROMPT
        answers += [await client.post(url, json={"model": "good", "messages": one}) for one in wrong]
        answers.append(await client.post(url, content=b'{"model": "good", "messages": "' + PROMPT.encode()))
        answers.append(
            await client.post(url, json={"model": "good"}, headers={"authorization": f"Bearer {CREDENTIAL}"})
        )
    return answers


async def test_s3_s12_no_output_for_operators_contains_secrets_or_prompts(
    up: FaultUpstream, collector: Collector
) -> None:
    environ = {"CREDENTIAL": CREDENTIAL, "HEADER": HEADER, "COLLECTOR": COLLECTOR}
    async with live(yaml(up, collector), environ=environ) as gateway:
        answers = await make_calls(gateway)
        records = await gateway.records(len(answers))
        async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES,
            trust_env=False, timeout=30, headers={"authorization": f"Bearer {ADMIN}"}
        ) as client:
            paths = ("/metrics", "/readyz", "/admin/targets", "/admin/config", "/admin/usage", "/admin/keys")
            shown = {path: (await client.get(gateway.admin_url + path)).text for path in paths}
        await eventually(lambda: len(collector.spans) >= len(answers), 20)
        reports = gateway.reports
    assert len({answer.status_code for answer in answers}) >= 5
    assert "lockgate_requests_total" in shown["/metrics"]
    searched = {"log": json.dumps(records), "reports": json.dumps(reports), "spans": str(collector.spans), **shown}
    for where, text in searched.items():
        for mark in (*SECRETS, PROMPT, ANSWER):
            assert mark not in text, f"{mark} in {where}: {text[max(0, text.find(mark) - 200) : text.find(mark) + 60]}"
    for answer in answers:
        for secret in SECRETS:
            assert secret not in answer.text + str(answer.headers), f"{secret} in an answer: {answer.text}"

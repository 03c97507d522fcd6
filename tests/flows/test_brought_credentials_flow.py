"""Credentials that callers bring: they go to their provider only, and no target's health and no budget of the operator depends on them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import END, JSON, SSE, WORDS, canned, chat_chunk, chunked, completion
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Exchange
from tests.flows.conftest import CREDENTIAL, chat
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

TOKEN, PLAIN = "lg-byok-0123456789abcdef", "lg-plain-0123456789abcdef"
BROUGHT = "sk-brought-0123456789abcdef"
HEADER = {"x-gateway-credential-one": BROUGHT}


def config(up: FaultUpstream, key: str = "") -> str:
    """Return a configuration with two providers at one upstream; callers may bring a credential for the first."""
    prices = "prices: { '*': { prompt: 1000, output: 1000 } }"
    return f"""
providers:
  One: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", headers: {{ openai-organization: ours }}, {prices} }}
  two: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", {prices} }}
models:
  m: {{ targets: [One/mock, two/mock], retries: 0 }}
  alone: One/mock
passthrough:
  /v1/audio/*: One
keys:
  app: {{ hash: "{digest(TOKEN)}", bring_credentials: [One], passthrough: ["*"]{key} }}
  plain: {{ hash: "{digest(PLAIN)}" }}
"""


def serving(up: FaultUpstream, key: str = "") -> Any:
    """Serve the configuration."""
    return live(config(up, key), environ={"UP_KEY": CREDENTIAL})


async def call(
    client: httpx.AsyncClient, gateway: Live, model: str = "m", token: str = TOKEN, brought: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    """Send a call that brings a credential."""
    headers = {**bearer(token), **(HEADER if brought is None else brought)}
    return await client.post(f"{gateway.base_url}/chat/completions", json={**chat(), "model": model, **more}, headers=headers)


def credentials(up: FaultUpstream) -> list[str]:
    """Return the credential of each upstream request, in order."""
    return [str(request.header("authorization")).removeprefix("Bearer ") for request in up.requests]


def refuse_brought(up: FaultUpstream, status: int, body: dict[str, Any]) -> None:
    """Refuse the credential that the caller brought, and answer all others."""
    answer = canned(json.dumps(body).encode(), status)
    up.on(lambda request: BROUGHT in (request.header("authorization") or ""), answer)


async def test_the_credential_goes_to_its_provider_without_headers_of_our_account(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        assert (await call(client, gateway)).status_code == 200
        assert (await call(client, gateway, brought={})).status_code == 200
        (record, _) = await gateway.records(2)
    assert credentials(up) == [BROUGHT, CREDENTIAL]
    assert [request.header("openai-organization") for request in up.requests] == [None, "ours"]
    assert record["brought_credentials"] == ["One"]


@pytest.mark.parametrize(
    ("token", "header", "status", "code"),
    [
        (PLAIN, "x-gateway-credential-one", 403, "credential_not_allowed"),
        (TOKEN, "x-gateway-credential-two", 403, "credential_not_allowed"),
        (TOKEN, "x-gateway-credential-nope", 403, "credential_not_allowed"),
        (TOKEN, "x-gateway-credential-", 403, "credential_not_allowed"),
    ],
)
async def test_a_credential_that_the_key_does_not_allow_is_refused(
    up: FaultUpstream, client: httpx.AsyncClient, token: str, header: str, status: int, code: str
) -> None:
    async with serving(up) as gateway:
        refused = await call(client, gateway, token=token, brought={header: BROUGHT})
        passed = await client.get(f"{gateway.base_url}/audio/x", headers={**bearer(TOKEN), "x-gateway-credential-two": BROUGHT})
        await gateway.records(2)
    assert (refused.status_code, refused.json()["error"]["code"], refused.json()["error"]["param"]) == (status, code, header)
    assert (passed.status_code, passed.json()["error"]["code"]) == (403, "credential_not_allowed")
    assert up.requests == []


@pytest.mark.parametrize("value", ["", "a b", "x" * 9000])
async def test_an_unusable_credential_is_refused(up: FaultUpstream, client: httpx.AsyncClient, value: str) -> None:
    async with serving(up) as gateway:
        refused = await call(client, gateway, brought={"x-gateway-credential-one": value})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-gateway-credential-one")
    assert up.requests == []


async def test_a_refused_credential_ends_the_call_and_leaves_our_own_in_service(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    message = f"Incorrect API key provided: {BROUGHT}."
    refuse_brought(up, 401, {"error": {"message": message, "code": "invalid_api_key", "type": "invalid_request_error"}})
    async with serving(up) as gateway:
        for _ in range(6):
            refused = await call(client, gateway)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "credential_refused")
            assert refused.json()["error"]["param"] == "x-gateway-credential-one"
            assert BROUGHT not in refused.text
        assert credentials(up) == [BROUGHT] * 6
        assert gateway.gateway.health.is_live("One/mock")
        assert [(health.failures, health.rate_limits, health.last_failure) for health in gateway.gateway.health.all()] == []
        own = await call(client, gateway, brought={})
        assert own.headers["x-gateway-target"] == "One/mock"
        lines = json.dumps(await gateway.records(7))
    assert BROUGHT not in lines


async def test_a_used_up_account_of_the_caller_ends_the_call(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    error = {"message": "You exceeded your current quota.", "code": "insufficient_quota", "type": "insufficient_quota"}
    refuse_brought(up, 429, {"error": error})
    async with serving(up) as gateway:
        refused = await call(client, gateway)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert gateway.gateway.health.is_live("One/mock")
    assert credentials(up) == [BROUGHT]


async def test_a_fallback_at_another_provider_uses_our_own_credential(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    refuse_brought(up, 429, {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}})
    async with serving(up) as gateway:
        answers = [await call(client, gateway) for _ in range(3)]
        own = await call(client, gateway, brought={})
    assert [answer.headers["x-gateway-target"] for answer in answers] == ["two/mock"] * 3
    assert own.headers["x-gateway-target"] == "One/mock"
    assert credentials(up) == [BROUGHT, CREDENTIAL] * 3 + [CREDENTIAL]


async def test_a_cooldown_of_our_own_credential_does_not_stop_the_callers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.once(canned(b'{"error": {"message": "bad key", "code": "invalid_api_key"}}', 401))
    async with serving(up) as gateway:
        assert (await call(client, gateway, model="alone", brought={})).status_code == 502
        assert not gateway.gateway.health.is_live("One/mock")
        assert (await call(client, gateway, model="alone")).status_code == 200
        assert not gateway.gateway.health.is_live("One/mock")


async def test_a_passed_call_brings_its_credential(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/audio/x", canned(b"{}"))
    async with serving(up) as gateway:
        answer = await client.get(f"{gateway.base_url}/audio/x", headers={**bearer(TOKEN), **HEADER})
    assert answer.status_code == 200
    assert credentials(up) == [BROUGHT]
    assert all(request.header("x-gateway-credential-one") is None for request in up.requests)


@pytest.mark.parametrize(("setting", "statuses"), [("", [200, 429]), (", budget_brought_credentials: false", [200, 200])])
async def test_spend_is_booked_as_the_callers_and_counts_in_budgets_unless_excluded(
    up: FaultUpstream, client: httpx.AsyncClient, setting: str, statuses: list[int]
) -> None:
    async with serving(up, f", limits: {{ spend: 0.02 USD/total }}{setting}") as gateway:
        answers = [await call(client, gateway, model="alone", max_tokens=8) for _ in range(2)]
        assert [answer.status_code for answer in answers] == statuses
        await gateway.records(2)
        copies = [counts for _, _, counts in gateway.gateway.ledger.counters.all_copies()]
        assert sum(counts.cost for counts in copies) == sum(counts.brought_cost for counts in copies) > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("brought", [True, False])
async def test_headers_of_an_answer_never_show_the_credential_of_the_request(
    up: FaultUpstream, client: httpx.AsyncClient, brought: bool, stream: bool
) -> None:
    async def echo(exchange: Exchange) -> None:
        sent = str(exchange.request.header("authorization")).encode()
        names = (b"x-request-id", b"x-ratelimit-limit-requests", b"cf-ray", b"location", b"x-other")
        told = b"".join(b"%s: of %s\r\n" % (name, sent) for name in names)
        events = [b"data: %s\n\n" % json.dumps(each).encode() for each in (*WORDS, chat_chunk(finish="stop"))]
        whole = completion("x")
        answer = JSON + b"content-length: %d\r\n\r\n" % len(whole) + whole
        if stream:
            answer = SSE + b"".join(map(chunked, events)) + END
        await exchange.send(answer.replace(b"\r\n", b"\r\n" + told, 1))

    up.on(lambda request: True, echo)
    async with serving(up) as gateway:
        answers = [await call(client, gateway, stream=stream, brought=None if brought else {})]
        headers = {**bearer(TOKEN), **(HEADER if brought else {})}
        answers.append(await client.get(f"{gateway.base_url}/audio/x", headers=headers, follow_redirects=False))
        lines = json.dumps(await gateway.records(2))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all(answer.headers["x-upstream-request-id"] == "of Bearer ***" for answer in answers)
    assert answers[1].headers["x-other"] == "of Bearer ***"
    for text in (lines, *(str(answer.headers.raw) for answer in answers)):
        assert BROUGHT not in text
        assert CREDENTIAL not in text


async def test_receipts_metrics_and_explanations_never_show_the_credential(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        headers = {**bearer(TOKEN), **HEADER, "x-gateway-receipt": "body"}
        answer = await client.post(f"{gateway.base_url}/chat/completions", json=chat(), headers=headers)
        explained = await client.post(f"{gateway.base_url}/explain", json=chat(), headers=headers)
        metrics = await client.get(f"{gateway.admin_url}/metrics")
    assert [each.status_code for each in (answer, explained, metrics)] == [200, 200, 200]
    for text in (answer.text, str(answer.headers), explained.text, metrics.text):
        assert BROUGHT not in text


async def test_a_hedge_at_another_provider_uses_our_own_credential(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.hang()

    up.on(lambda request: BROUGHT in (request.header("authorization") or ""), hang)
    yaml = config(up).replace("retries: 0", "retries: 0, hedge: 300ms")
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        for _ in range(40):  # calls that are not hedged save up the budget for a hedge
            await call(client, gateway, brought={})
        up.requests.clear()
        answer = await call(client, gateway)
    assert (answer.status_code, answer.headers["x-gateway-target"]) == (200, "two/mock")
    assert credentials(up) == [BROUGHT, CREDENTIAL]

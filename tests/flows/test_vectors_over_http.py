"""Logits requests of the vectors over HTTP, and upstream errors in the format of every provider."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import httpx
import pytest

import providers
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, post_chat
from tests.flows.live import Live, live
from tests.providers.cases import Case, Sent, by_mode, differences, load, request_of
from tests.providers.strict import facts_of, refusal
from tests.providers.test_requests import CHATS

CASES = list(by_mode(load("request_cases")))
LOGITS = [case for case in CASES if (case[1].get("config") or {}).get("operation") == "logits"]
TYPES = sorted(set(providers.types()) - {"local"})


def strict_server(kind: str) -> str:
    """Return the name of the strict server with the error format of this provider type."""
    return "openai" if kind in ("openai-compatible", "openrouter") else kind


def serving(up: FaultUpstream, kinds: list[str], model: str = "mock", path: str = "/v1") -> AbstractAsyncContextManager[Live]:
    """Serve one model per provider type, named like the type."""
    provider = {"base_url": up.origin + path, "api_key": "${UP_KEY}"}
    config = {"providers": {kind: {"type": kind, **provider} for kind in kinds}, "models": {kind: f"{kind}/{model}" for kind in kinds}}
    return live(json.dumps(config), environ={"UP_KEY": CREDENTIAL})


def test_every_vector_runs_as_a_chat_or_in_this_file() -> None:
    assert len(LOGITS) > 0
    assert {name for name, _, _ in CASES} == {name for name, _, _ in [*CHATS, *LOGITS]}


@pytest.mark.parametrize(("case", "strict"), [case[1:] for case in LOGITS], ids=[case[0] for case in LOGITS])
@pytest.mark.parametrize("path", ["/v1/chat/logits", "/api/inference/v1/chat-attribution/compute-logits"])
async def test_logits_request_matches_the_vectors(
    up: FaultUpstream, client: httpx.AsyncClient, case: Case, strict: bool, path: str
) -> None:
    base = urlsplit(str(providers.get(case["provider"]).default_base_url))
    up.on(lambda request: True, canned(b'{"logits": {"Yes": 0.75}}'))
    headers = {"x-gateway-strict": "true" if strict else "false", "x-gateway-receipt": "body"}
    async with serving(up, [case["provider"]], case["request"]["model"], base.path) as gateway:
        response = await client.post(gateway.url + path, json={**request_of(case), "model": case["provider"]}, headers=headers)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["logits"] == {"Yes": 0.75}
    (sent,) = up.requests
    adjustments = tuple({"from": None, "to": None, **adjustment} for adjustment in body["gateway"]["adjustments"])
    url = f"{base.scheme}://{base.netloc}{sent.path}"
    assert differences(case, Sent(url, dict(sent.headers), (sent.json,), adjustments)) == []


async def ask(gateway: Live, client: httpx.AsyncClient, kind: str, *, stream: bool = False) -> httpx.Response:
    """Send one chat call to the model of this provider type."""
    return await post_chat(client, gateway, kind, stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("status", [401, 403])
async def test_rejected_credential_is_a_gateway_error_and_never_shown(
    up: FaultUpstream, client: httpx.AsyncClient, status: int, stream: bool
) -> None:
    kinds = [kind for kind in TYPES if (kind, status) != ("together", 403)]  # for this provider, a 403 means that the context is too long
    async with serving(up, kinds) as gateway:
        for kind in kinds:
            reply = refusal(strict_server(kind), status, None, f"Incorrect API key provided: {CREDENTIAL}")
            up.once(canned(reply.body, status, {"content-type": reply.content_type}))
            response = await ask(gateway, client, kind, stream=stream)
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["type"]) == (502, "upstream_auth_error", "upstream_error"), kind
            assert "Incorrect API key provided" in error["message"], kind
            assert CREDENTIAL not in response.text, kind
        records = await gateway.records(len(kinds))
    assert CREDENTIAL not in json.dumps(records)
    assert len(up.requests) == len(kinds)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_openai_error_is_returned_unchanged(up: FaultUpstream, client: httpx.AsyncClient, status: int) -> None:
    error = {"message": "the model says no", "type": "invalid_request_error", "param": "messages[0].content", "code": "string_too_long"}
    up.on(lambda request: True, canned(json.dumps({"error": error}).encode(), status))
    kinds = [kind for kind in TYPES if facts_of(strict_server(kind)).get("errors", "openai") == "openai"]
    async with serving(up, kinds) as gateway:
        for kind in kinds:
            response = await ask(gateway, client, kind)
            assert (response.status_code, response.json()["error"]) == (status, error), kind
    assert len(kinds) > 8

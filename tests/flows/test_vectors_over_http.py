"""What the vectors' chat calls leave open, through the whole gateway: token probabilities, and errors of the upstream in every wire."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import httpx
import pytest

import providers
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat
from tests.flows.live import Live, live
from tests.providers.cases import Case, Sent, by_mode, differences, load, request_of
from tests.providers.strict import facts_of, refusal
from tests.providers.test_requests import CHATS

CASES = list(by_mode(load("request_cases")))
LOGITS = [case for case in CASES if (case[1].get("config") or {}).get("operation") == "logits"]
TYPES = sorted(set(providers.types()) - {"local"})


def strict_server(kind: str) -> str:
    """The strict server whose error format is this type's."""
    return "openai" if kind in ("openai-compatible", "openrouter") else kind


def serving(up: FaultUpstream, kinds: list[str], model: str = "mock", path: str = "/v1") -> AbstractAsyncContextManager[Live]:
    """A gateway with one model for each of these provider types, named like it."""
    provider = {"base_url": up.origin + path, "api_key": "${UP_KEY}"}
    config = {"providers": {kind: {"type": kind, **provider} for kind in kinds}, "models": {kind: f"{kind}/{model}" for kind in kinds}}
    return live(json.dumps(config), environ={"UP_KEY": CREDENTIAL})


def test_every_vector_runs_over_http_either_as_a_chat_or_here() -> None:
    assert len(LOGITS) > 0
    assert {name for name, _, _ in CASES} == {name for name, _, _ in [*CHATS, *LOGITS]}


@pytest.mark.parametrize(("case", "strict"), [case[1:] for case in LOGITS], ids=[case[0] for case in LOGITS])
@pytest.mark.parametrize("path", ["/v1/chat/logits", "/api/inference/v1/chat-attribution/compute-logits"])
async def test_a_call_for_probabilities_becomes_what_the_facts_say(
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
    made = tuple({"from": None, "to": None, **one} for one in body["gateway"]["adjustments"])
    url = f"{base.scheme}://{base.netloc}{sent.path}"
    assert differences(case, Sent(url, dict(sent.headers), (sent.json,), made)) == []


async def asked(gateway: Live, client: httpx.AsyncClient, kind: str, *, stream: bool = False) -> httpx.Response:
    """The answer to one plain chat."""
    return await client.post(gateway.base_url + "/chat/completions", json=chat(kind, stream=stream))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_the_gateways_trouble_and_never_shows(
    up: FaultUpstream, client: httpx.AsyncClient, status: int, stream: bool
) -> None:
    kinds = [kind for kind in TYPES if (kind, status) != ("together", 403)]  # whose 403 means a context that is too long
    async with serving(up, kinds) as gateway:
        for kind in kinds:
            reply = refusal(strict_server(kind), status, None, f"Incorrect API key provided: {CREDENTIAL}")
            up.once(canned(reply.body, status, {"content-type": reply.content_type}))
            response = await asked(gateway, client, kind, stream=stream)
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["type"]) == (502, "upstream_auth_error", "upstream_error"), kind
            assert "Incorrect API key provided" in error["message"], kind
            assert CREDENTIAL not in response.text, kind
        records = await gateway.records(len(kinds))
    assert CREDENTIAL not in json.dumps(records)
    assert len(up.requests) == len(kinds)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_the_words_of_an_openai_error_pass_as_they_are(up: FaultUpstream, client: httpx.AsyncClient, status: int) -> None:
    told = {"message": "the model says no", "type": "invalid_request_error", "param": "messages[0].content", "code": "string_too_long"}
    up.on(lambda request: True, canned(json.dumps({"error": told}).encode(), status))
    kinds = [kind for kind in TYPES if facts_of(strict_server(kind)).get("errors", "openai") == "openai"]
    async with serving(up, kinds) as gateway:
        for kind in kinds:
            response = await asked(gateway, client, kind)
            assert (response.status_code, response.json()["error"]) == (status, told), kind
    assert len(kinds) > 8

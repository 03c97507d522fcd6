"""The callers' endpoints besides model calls, tested through the whole application."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.exceptions import HTTPException

from gateway.config.load import parse
from gateway.errors import GatewayError
from gateway.http.json_body import CallerDisconnectedError
from gateway.runtime.gateway import Gateway
from gateway.server.endpoints import Endpoints
from gateway.telemetry.call_log import CallLog
from tests.flows.live import Live, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

YAML = """
providers:
  up: { type: openai-compatible, base_url: "http://127.0.0.1:9/v1" }
models:
  m: up/mock
  other: up/other
"""


@pytest.fixture
async def serving() -> AsyncIterator[Live]:
    """A gateway without keys."""
    async with live(YAML) as gateway:
        yield gateway


@pytest.mark.parametrize("prefix", ["/v1", "", "/openai/v1"])
async def test_models_are_listed_under_every_prefix(serving: Live, prefix: str) -> None:
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client:
        answer = await client.get(f"{serving.url}{prefix}/models")
    assert [model["id"] for model in answer.json()["data"]] == ["m", "other"]


async def test_one_model_is_described_with_its_targets(serving: Live) -> None:
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client:
        answer = await client.get(f"{serving.url}/v1/models/m")
    assert [target["target"] for target in answer.json()["targets"]] == ["up/mock"]


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        (
            "GET",
            "/v1/nothing",
            404,
            "Unknown path /v1/nothing. Use POST /v1/chat/completions or GET /v1/models. To pass it to a provider, declare it in "
            'the gateway\'s configuration: passthrough: { "/v1/nothing/*": PROVIDER }.',
        ),
        ("DELETE", "/v1/models", 405, "DELETE is not allowed on /v1/models. Use GET."),
        ("GET", "/v1/chat/completions", 405, "GET is not allowed on /v1/chat/completions. Use POST."),
        ("OPTIONS", "/v1/chat/completions", 405, "OPTIONS is not allowed on /v1/chat/completions. Use POST."),
    ],
)
async def test_an_unknown_path_or_method_is_rejected(serving: Live, method: str, path: str, code: int, message: str) -> None:
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client:
        answer = await client.request(method, serving.url + path)
    assert (answer.status_code, answer.json()["error"]["message"]) == (code, message)


async def test_the_list_of_models_has_what_is_known_of_each(serving: Live) -> None:
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client:
        answer = await client.get(f"{serving.url}/v1/models")
    assert answer.json()["data"][:1] == [{"id": "m", "object": "model", "created": 0, "owned_by": "up", "available": True}]


def test_every_kind_of_error_has_a_handler() -> None:
    gateway = Gateway(parse(YAML.encode(), "g.yaml", environ={}), CallLog(2, human=True), lambda line: None)
    assert {GatewayError, HTTPException, CallerDisconnectedError, Exception} == set(Endpoints(gateway, {}).handlers())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/m"),
        ("GET", "/anthropic/v1/models"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/key"),
    ],
)
async def test_answers_to_anthropics_clients_have_their_request_id(serving: Live, method: str, path: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]} if method == "POST" else None
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client:
        answer = await client.request(method, serving.url + path, json=body, headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 200
    assert answer.headers["request-id"] == answer.headers["x-request-id"] != ""

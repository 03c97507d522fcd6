"""The base URLs of vendors' packages: prefixes, Azure's deployments and the headers for keys."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.dialects.table import PREFIXES
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, one_model, serving
from tests.flows.live import Live, live
from tests.flows.operator import digest

HI = [{"role": "user", "content": "Hi"}]
KEY = "lg-a-0123456789abcdef"
NAMED = "  gpt/4: up/mock\n"
DEPLOYMENT = "/openai/deployments/m"


async def post(client: httpx.AsyncClient, gateway: Live, path: str, body: Any, **headers: str) -> httpx.Response:
    """Send one call to a path."""
    return await client.post(gateway.url + path, json=body, headers=headers)


async def test_chat_and_models_are_served_under_every_prefix(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for prefix in PREFIXES:
            answer = await post(client, gateway, f"{prefix}/chat/completions", {"model": "m", "messages": HI})
            assert answer.status_code == 200, (prefix, answer.text)
            listed = (await client.get(f"{gateway.url}{prefix}/models")).json()["data"]
            assert [model["id"] for model in listed] == ["m"], prefix
            assert (await client.get(f"{gateway.url}{prefix}/models/m")).json()["id"] == "m"


@pytest.mark.parametrize("version", ["?api-version=2024-10-21", ""])
@pytest.mark.parametrize("given", [{}, {"model": "m"}, {"model": None}, {"model": "<ignored>"}, {"model": 5}])
async def test_deployment_in_the_path_is_the_model_whatever_the_body_names(
    up: FaultUpstream, client: httpx.AsyncClient, given: dict[str, Any], version: str
) -> None:
    async with serving(up) as gateway:
        path = f"{DEPLOYMENT}/chat/completions{version}"
        answer = await post(client, gateway, path, {**given, "messages": HI})
        stream = await post(client, gateway, path, {**given, "messages": HI, "stream": True})
        plan = await post(client, gateway, f"{DEPLOYMENT}/chat/completions/explain{version}", {**given, "messages": HI})
    assert answer.status_code == 200, answer.text
    assert stream.text.endswith("data: [DONE]\n\n")
    assert (plan.json()["model"], plan.json()["targets"][0]["target"]) == ("m", "up/mock")
    assert [json.loads(request.body)["model"] for request in up.requests] == ["mock", "mock"]


async def test_deployment_may_contain_slashes(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(one_model(up, NAMED), environ={"UP_KEY": CREDENTIAL}) as gateway:
        for name in ("gpt/4", "gpt%2F4"):
            answer = await post(client, gateway, f"/openai/deployments/{name}/chat/completions", {"messages": HI})
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("path", "status"), [("/chat/completions", 405), ("/images/generations", 404), ("", 404)])
async def test_other_requests_below_a_deployment_are_rejected(
    up: FaultUpstream, client: httpx.AsyncClient, path: str, status: int
) -> None:
    async with serving(up) as gateway:
        answer = await client.get(f"{gateway.url}{DEPLOYMENT}{path}")
        posted = await post(client, gateway, f"{DEPLOYMENT}/images/generations", {"prompt": "x"})
    assert answer.status_code == status
    assert posted.status_code == 404


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key"])
async def test_key_is_accepted_in_the_header_of_each_vendor(up: FaultUpstream, client: httpx.AsyncClient, header: str) -> None:
    text = one_model(up, f"keys:\n  a: {{ hash: '{digest(KEY)}' }}\n")
    async with live(text, environ={"UP_KEY": CREDENTIAL}) as gateway:
        body = {"model": "m", "messages": HI}
        given = await post(client, gateway, "/v1/chat/completions", body, **{header: KEY})
        wrong = await post(client, gateway, "/v1/chat/completions", body, **{header: "lg-unknown-0123456789"})
    assert (given.status_code, wrong.status_code) == (200, 401)
    assert KEY not in str(up.requests[0].headers)

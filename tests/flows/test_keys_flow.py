"""Who may call, and what a refusal says: OpenAI's shape, a request id, and never the key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, serving
from tests.flows.live import Live

TOKENS = {name: f"lg-{name}-0123456789abcdef" for name in ("good", "limited", "off", "late", "admin", "fussy")}


def digest(name: str) -> str:
    """The hash of a key, as the file has it."""
    return "sha256:" + hashlib.sha256(TOKENS[name].encode()).hexdigest()


KEYS = f"""
  other: up/other
  "wild-*": up/wild
keys:
  good: {{ hash: "{digest("good")}" }}
  limited: {{ hash: "{digest("limited")}", models: [m, wild-1] }}
  off: {{ hash: "{digest("off")}", disabled: true }}
  late: {{ hash: "{digest("late")}", expires: 2020-01-01 }}
  fussy: {{ hash: "{digest("fussy")}", strict: true }}
admin: {{ key_hash: "{digest("admin")}" }}
"""


@pytest.fixture
async def gateway(up: FaultUpstream) -> AsyncIterator[Live]:
    """A gateway with keys."""
    async with serving(up, KEYS) as one:
        yield one


def bearer(token: str) -> dict[str, str]:
    """The headers that send a key."""
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("token", "status", "code"), [
    ("", 401, "invalid_api_key"),
    ("sk-unknown-key-12345", 401, "invalid_api_key"),
    (TOKENS["good"][:-1], 401, "invalid_api_key"),
    (TOKENS["admin"], 401, "invalid_api_key"),
    (TOKENS["off"], 403, "key_disabled"),
    (TOKENS["late"], 403, "key_expired"),
])  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/explain", "/v1/models", "/v1/models/m", "/openai/v1/chat/completions"])
async def test_no_right_no_answer(
    gateway: Live, up: FaultUpstream, client: httpx.AsyncClient, token: str, status: int, code: str, path: str
) -> None:
    headers = bearer(token) if token else {}
    answer = await (client.get(gateway.url + path, headers=headers) if "models" in path
                    else client.post(gateway.url + path, headers=headers, json=chat()))  # fmt: skip
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (code, "invalid_request_error", None)
    assert answer.headers["x-request-id"].startswith("req_")
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert not token or token not in answer.text + str(answer.headers)
    assert not token or all(token not in str(line) for line in gateway.lines())
    assert up.requests == []


async def test_a_good_key_is_served_and_counted_by_name(gateway: Live, client: httpx.AsyncClient) -> None:
    answer = await client.post(gateway.base_url + "/chat/completions", headers=bearer(TOKENS["good"]), json=chat())
    assert answer.status_code == 200
    record = (await gateway.records(1))[0]
    assert record["key"] == "good"
    assert TOKENS["good"] not in str(record)


@pytest.mark.parametrize(("model", "status"), [("m", 200), ("wild-1", 200), ("wild-2", 403), ("other", 403), ("none", 404)])
async def test_a_key_opens_its_models_alone(gateway: Live, client: httpx.AsyncClient, model: str, status: int) -> None:
    for path in ("/chat/completions", "/explain"):
        answer = await client.post(gateway.base_url + path, headers=bearer(TOKENS["limited"]), json=chat(model))
        assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "model_not_allowed"


async def test_models_are_listed_as_far_as_a_key_may_use_them(gateway: Live, client: httpx.AsyncClient) -> None:
    async def names(token: str, path: str = "/v1/models") -> list[str]:
        answer = await client.get(gateway.url + path, headers=bearer(token))
        return [model["id"] for model in answer.json()["data"]]

    assert await names(TOKENS["good"]) == ["m", "other"]
    assert await names(TOKENS["limited"]) == ["m"]
    for path in ("/models", "/openai/v1/models", "/inference/v1/models", "/v1/models/"):
        assert await names(TOKENS["good"], path) == ["m", "other"]
    answer = await client.get(gateway.base_url + "/models/other", headers=bearer(TOKENS["limited"]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_one_model_tells_what_it_honours(gateway: Live, client: httpx.AsyncClient) -> None:
    answer = await client.get(gateway.base_url + "/models/m", headers=bearer(TOKENS["good"]))
    found = answer.json()
    assert (found["id"], found["object"]) == ("m", "model")
    assert found["targets"][0]["target"] == "up/mock"
    assert isinstance(found["targets"][0]["parameters"], dict)
    assert "sk-upstream" not in answer.text
    assert (await client.get(gateway.base_url + "/models/none", headers=bearer(TOKENS["good"]))).status_code == 404


async def test_refusals_are_counted_by_reason(gateway: Live, client: httpx.AsyncClient) -> None:
    for token in ("nobody", TOKENS["off"]):
        await client.post(gateway.base_url + "/chat/completions", headers=bearer(token), json=chat())
    assert gateway.count("lockgate_auth_failures", "invalid_api_key") == 1
    assert gateway.count("lockgate_auth_failures", "key_disabled") == 1


async def test_the_admin_listener_gives_metrics_to_the_admin_key_alone(gateway: Live, client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await client.get(gateway.admin_url + path)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"]
    for headers in ({}, bearer("wrong"), bearer(TOKENS["good"])):
        answer = await client.get(gateway.admin_url + "/metrics", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    answer = await client.get(gateway.admin_url + "/metrics", headers=bearer(TOKENS["admin"]))
    assert answer.status_code == 200
    assert "lockgate_requests_in_flight" in answer.text


async def test_metrics_can_be_left_open(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, KEYS.replace("admin: {", "admin: { metrics: open,")) as gateway:
        answer = await client.get(gateway.admin_url + "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_the_two_listeners_answer_only_their_own_paths(gateway: Live, client: httpx.AsyncClient) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/admin", "/v1/metrics"):
        assert (await client.get(gateway.url + path, headers=bearer(TOKENS["good"]))).status_code == 404
    for path in ("/v1/models", "/models", "/nothing"):
        answer = await client.get(gateway.admin_url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (await client.post(gateway.admin_url + "/healthz")).status_code == 405


@pytest.mark.parametrize("how", ["header", "key", "model", "config"])
async def test_strict_is_asked_for_by_header_key_model_or_configuration(up: FaultUpstream, client: httpx.AsyncClient, how: str) -> None:
    rest = KEYS.replace("  other: up/other", "  other: { targets: up/other, strict: true }") + ("strict: true\n" if how == "config" else "")
    headers = bearer(TOKENS["fussy" if how == "key" else "good"]) | ({"x-gateway-strict": "true"} if how == "header" else {})
    body = chat("other" if how == "model" else "m", top_k=7)
    async with serving(up, rest, kind="openai") as gateway:
        lenient = None if how == "config" else await client.post(
            gateway.base_url + "/chat/completions", headers=bearer(TOKENS["good"]), json=chat(top_k=7)
        )  # fmt: skip
        refused = await client.post(gateway.base_url + "/chat/completions", headers=headers, json=body)
        told = await client.post(gateway.base_url + "/explain", headers=headers, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "top_k")
    assert told.json()["targets"][0]["error"]["param"] == "top_k"
    assert lenient is None or lenient.headers["x-gateway-adjusted"].startswith('"top_k";drop')
    assert len(up.requests) == (how != "config")


async def test_a_key_kept_to_targets_gets_those_and_no_other(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    keys = f"keys:\n  direct: {{ hash: '{digest('good')}', models: [up/mock, 'up/new-*'] }}\nexpose_targets: true\n"
    async with serving(up, keys) as gateway:
        for model, status in {"up/mock": 200, "up/new-1": 200, "up/other": 403, "m": 403}.items():
            answer = await client.post(gateway.base_url + "/chat/completions", json=chat(model), headers=bearer(TOKENS["good"]))
            assert answer.status_code == status, answer.text
    assert [request.json["model"] for request in up.requests] == ["mock", "new-1"]

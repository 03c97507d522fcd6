"""Authentication: rejected calls get an error in OpenAI's format, with a request id and never with the key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, post_chat, serving
from tests.flows.live import Live
from tests.flows.operator import bearer, digest

TOKENS = {name: f"lg-{name}-0123456789abcdef" for name in ("good", "limited", "off", "late", "admin", "fussy")}


KEYS = f"""
  other: up/other
  "wild-*": up/wild
keys:
  good: {{ hash: "{digest(TOKENS["good"])}" }}
  limited: {{ hash: "{digest(TOKENS["limited"])}", models: [m, wild-1] }}
  off: {{ hash: "{digest(TOKENS["off"])}", disabled: true }}
  late: {{ hash: "{digest(TOKENS["late"])}", expires: 2020-01-01 }}
  fussy: {{ hash: "{digest(TOKENS["fussy"])}", strict: true }}
admin: {{ key_hash: "{digest(TOKENS["admin"])}" }}
"""


@pytest.fixture
async def gateway(up: FaultUpstream) -> AsyncIterator[Live]:
    """Serve a gateway with keys."""
    async with serving(up, KEYS) as running:
        yield running


@pytest.mark.parametrize(("token", "status", "code"), [
    ("", 401, "invalid_api_key"),
    ("sk-unknown-key-12345", 401, "invalid_api_key"),
    (TOKENS["good"][:-1], 401, "invalid_api_key"),
    (TOKENS["admin"], 401, "invalid_api_key"),
    (TOKENS["off"], 403, "key_disabled"),
    (TOKENS["late"], 403, "key_expired"),
])  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/explain", "/v1/models", "/v1/models/m", "/openai/v1/chat/completions"])
async def test_call_without_a_valid_key_is_rejected(
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


async def test_valid_key_is_served_and_recorded_by_name(gateway: Live, client: httpx.AsyncClient) -> None:
    answer = await post_chat(client, gateway, headers=bearer(TOKENS["good"]))
    assert answer.status_code == 200
    record = (await gateway.records(1))[0]
    assert record["key"] == "good"
    assert TOKENS["good"] not in str(record)


@pytest.mark.parametrize(("model", "status"), [("m", 200), ("wild-1", 200), ("wild-2", 403), ("other", 403), ("none", 404)])
async def test_key_may_call_only_its_models(gateway: Live, client: httpx.AsyncClient, model: str, status: int) -> None:
    for path in ("/chat/completions", "/explain"):
        answer = await client.post(gateway.base_url + path, headers=bearer(TOKENS["limited"]), json=chat(model))
        assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "model_not_allowed"


@pytest.mark.parametrize(("token", "listed"), [("limited", "m."), ("good", "m, other.")])
async def test_an_unknown_model_lists_only_models_allowed_for_the_key(
    gateway: Live, client: httpx.AsyncClient, token: str, listed: str
) -> None:
    for model in ("none", "othe", "\u200bm"):
        answers = [
            await client.post(gateway.base_url + path, headers=bearer(TOKENS[token]), json=chat(model))
            for path in ("/chat/completions", "/explain")
        ]
        answers.append(await client.get(f"{gateway.base_url}/models/{model}", headers=bearer(TOKENS[token])))
        for answer in answers:
            assert answer.status_code == 404
            message = answer.json()["error"]["message"]
            assert message.endswith(f"Available models: {listed}")
            assert ("'other'" in message) == (token == "good" and model == "othe")


async def test_model_list_contains_only_models_allowed_for_the_key(gateway: Live, client: httpx.AsyncClient) -> None:
    async def names(token: str, path: str = "/v1/models") -> list[str]:
        answer = await client.get(gateway.url + path, headers=bearer(token))
        return [model["id"] for model in answer.json()["data"]]

    assert await names(TOKENS["good"]) == ["m", "other"]
    assert await names(TOKENS["limited"]) == ["m"]
    for path in ("/models", "/openai/v1/models", "/inference/v1/models", "/v1/models/"):
        assert await names(TOKENS["good"], path) == ["m", "other"]
    answer = await client.get(gateway.base_url + "/models/other", headers=bearer(TOKENS["limited"]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_model_endpoint_shows_supported_parameters(gateway: Live, client: httpx.AsyncClient) -> None:
    answer = await client.get(gateway.base_url + "/models/m", headers=bearer(TOKENS["good"]))
    model = answer.json()
    assert (model["id"], model["object"]) == ("m", "model")
    assert model["targets"][0]["target"] == "up/mock"
    assert isinstance(model["targets"][0]["parameters"], dict)
    assert "sk-upstream" not in answer.text
    assert (await client.get(gateway.base_url + "/models/none", headers=bearer(TOKENS["good"]))).status_code == 404


async def test_auth_failures_are_counted_by_reason(gateway: Live, client: httpx.AsyncClient) -> None:
    for token in ("lg-unknown", TOKENS["off"]):
        await post_chat(client, gateway, headers=bearer(token))
    assert gateway.count("lockgate_auth_failures", "invalid_api_key") == 1
    assert gateway.count("lockgate_auth_failures", "key_disabled") == 1


async def test_the_record_of_a_call_names_the_key_that_was_rejected(gateway: Live, client: httpx.AsyncClient) -> None:
    for token in (TOKENS["off"], TOKENS["late"], "lg-unknown"):
        await post_chat(client, gateway, headers=bearer(token))
    records = await gateway.records(3)
    assert [(record["key"], record["status"], record["error"]) for record in records] == [
        ("off", 403, "key_disabled"), ("late", 403, "key_expired"), (None, 401, "invalid_api_key"),
    ]  # fmt: skip


async def test_metrics_require_the_admin_key(gateway: Live, client: httpx.AsyncClient) -> None:
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


async def test_open_metrics_need_no_key(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, KEYS.replace("admin: {", "admin: { metrics: open,")) as gateway:
        answer = await client.get(gateway.admin_url + "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_each_listener_answers_only_its_own_paths(gateway: Live, client: httpx.AsyncClient) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/admin", "/v1/metrics"):
        assert (await client.get(gateway.url + path, headers=bearer(TOKENS["good"]))).status_code == 404
    for path in ("/v1/models", "/models", "/nothing"):
        answer = await client.get(gateway.admin_url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (await client.post(gateway.admin_url + "/healthz")).status_code == 405


@pytest.mark.parametrize("source", ["header", "key", "model", "config"])
async def test_strict_mode_is_set_by_header_key_model_or_configuration(up: FaultUpstream, client: httpx.AsyncClient, source: str) -> None:
    rest = KEYS.replace("  other: up/other", "  other: { targets: up/other, strict: true }") + (
        "strict: true\n" if source == "config" else ""
    )
    headers = bearer(TOKENS["fussy" if source == "key" else "good"]) | ({"x-gateway-strict": "true"} if source == "header" else {})
    body = chat("other" if source == "model" else "m", top_k=7)
    async with serving(up, rest, kind="openai") as gateway:
        lenient = None if source == "config" else await post_chat(client, gateway, top_k=7, headers=bearer(TOKENS["good"]))  # fmt: skip
        refused = await client.post(gateway.base_url + "/chat/completions", headers=headers, json=body)
        plan = await client.post(gateway.base_url + "/explain", headers=headers, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "top_k")
    assert plan.json()["targets"][0]["error"]["param"] == "top_k"
    assert lenient is None or lenient.headers["x-gateway-adjusted"].startswith('"top_k";drop')
    assert len(up.requests) == (source != "config")


async def test_key_limited_to_targets_may_call_only_those(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    keys = f"keys:\n  direct: {{ hash: '{digest(TOKENS['good'])}', models: [up/mock, 'up/new-*'] }}\nexpose_targets: true\n"
    async with serving(up, keys) as gateway:
        for model, status in {"up/mock": 200, "up/new-1": 200, "up/other": 403, "m": 403}.items():
            answer = await post_chat(client, gateway, model, headers=bearer(TOKENS["good"]))
            assert answer.status_code == status, answer.text
    assert [request.json["model"] for request in up.requests] == ["mock", "new-1"]

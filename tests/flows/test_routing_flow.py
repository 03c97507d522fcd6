"""Routing of model names to targets: aliases, wildcards, fallback before the first byte, retries and splits."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from benchmarks.ports import free_port
from tests.faults.upstream_server import FaultUpstream, status
from tests.flows.conftest import RECEIPT, events, post_chat, receipt_of
from tests.flows.live import live


def providers(**urls: str) -> str:
    """Return a `providers` section."""
    lines = "".join(f"  {name}: {{ type: openai-compatible, base_url: '{url}' }}\n" for name, url in urls.items())
    return f"providers:\n{lines}"


@pytest.mark.parametrize(("name", "upstream_model"), [
    ("exact", "one"), ("alias", "one"), ("claude-x", "claude"), ("claude-opus-9", "opus"), ("whatever", "rest"), ("a/b", "rest"),
    ("any-llama", "org/llama-x"), ("any-org/llama", "org/org/llama-x"),
])  # fmt: skip
async def test_model_names_aliases_and_wildcards_are_resolved(
    up: FaultUpstream, client: httpx.AsyncClient, name: str, upstream_model: str
) -> None:
    models = 'models: {exact: up/one, alias: exact, "claude-*": up/claude, "claude-opus-*": up/opus, "any-*": up/org/*-x, "*": up/rest}'
    async with live(providers(up=up.base_url) + models) as gateway:
        answer = await post_chat(client, gateway, name)
    assert answer.status_code == 200
    assert up.requests[0].model == upstream_model
    assert answer.headers["x-gateway-target"] == f"up/{upstream_model}"


@pytest.mark.parametrize("name", ["missing", "up/one", "x" * 10_000, "../../etc", "a\nb", "\u202egpt", "*"])
async def test_unknown_model_gets_404_with_the_known_models(up: FaultUpstream, client: httpx.AsyncClient, name: str) -> None:
    async with live(providers(up=up.base_url) + "models: {exact: up/one}") as gateway:
        answer = await post_chat(client, gateway, name)
        assert gateway.count("lockgate_requests", "other", "4xx") == 1
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "exact" in error["message"]
    assert len(error["message"]) < 1000
    assert up.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_failures_before_the_first_byte_fall_back_to_the_next_target(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    up.once(status(503))
    urls = providers(dead=f"http://127.0.0.1:{free_port()}/v1", sick=up.base_url, well=up.base_url)
    async with live(urls + "models: {m: [dead/a, sick/b, well/c]}") as gateway:
        answer = await post_chat(client, gateway, stream=stream, headers=RECEIPT)
        record = (await gateway.records(1))[0]
        assert gateway.count("lockgate_fallbacks") == 2
        assert gateway.count("lockgate_attempts", "dead/a", "connect") == 1
        assert gateway.count("lockgate_attempts", "sick/b", "503") == 1
        assert gateway.count("lockgate_attempts", "well/c", "ok") == 1
        assert gateway.count("lockgate_requests", "well/c", "2xx", "ok") == 1
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "well/c"
    assert answer.headers["x-gateway-attempts"] == "3"
    attempts = receipt_of(answer)["attempts"]
    outcomes = [(attempt["target"], attempt["outcome"]) for attempt in attempts]
    assert outcomes == [("dead/a", "connect"), ("sick/b", "503"), ("well/c", "ok")]
    assert attempts[-1]["ms"] > 0
    assert [(attempt["target"], attempt["outcome"]) for attempt in record["attempts"]] == outcomes
    assert record["target"] == "well/c"


async def test_no_fallback_after_the_first_byte(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(providers(up=up.base_url) + "models: {m: [up/fin-mid-stream, up/mock]}") as gateway:
        answer = await post_chat(client, gateway, stream=True)
    assert len(up.requests) == 1
    assert "upstream_truncated" in events(answer.text)[-1]
    assert "[DONE]" not in answer.text


async def test_caller_error_is_not_retried_elsewhere(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.once(status(400, "too hot", type="invalid_request_error", code="invalid_value", param="temperature"))
    async with live(providers(up=up.base_url) + "models: {m: [up/a, up/b]}") as gateway:
        answer = await post_chat(client, gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert len(up.requests) == 1


async def test_call_fails_with_502_if_all_targets_fail(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", status(500, "internal"))
    async with live(providers(up=up.base_url) + "models: {m: [up/a, up/b]}") as gateway:
        answer = await post_chat(client, gateway)
        await gateway.records(1)
    assert answer.status_code == 502
    assert answer.headers["x-gateway-attempts"] == "2"
    assert [request.model for request in up.requests] == ["a", "b"]


async def test_retries_use_the_same_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.once(status(500))
    up.once(status(502))
    async with live(providers(up=up.base_url) + "models: {m: {targets: up/a, retries: 2}}") as gateway:
        answer = await post_chat(client, gateway)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-attempts"] == "3"


async def test_split_chooses_by_weight(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(providers(up=up.base_url) + "models: {m: {up/a: 3, up/b: 1, up/never: 0}}") as gateway:
        for _ in range(100):
            await post_chat(client, gateway)
    drawn = Counter(request.model for request in up.requests)
    assert set(drawn) == {"a", "b"}
    assert 45 <= drawn["a"] <= 98  # 75 expected, standard deviation 4.3


async def test_exposed_target_may_be_called_by_name(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(providers(up=up.base_url) + "models: {m: up/a}\nexpose_targets: true") as gateway:
        answer = await post_chat(client, gateway, "up/anything")
        assert answer.status_code == 200
        for number in range(30):
            await post_chat(client, gateway, f"up/made-up-{number}")
        assert len(gateway.gateway.metrics.counts["lockgate_requests"]) <= 3
    assert up.requests[0].model == "anything"


async def test_target_name_cannot_inject_headers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(providers(up=up.base_url) + "models: {m: up/a}\nexpose_targets: true") as gateway:
        answer = await post_chat(client, gateway, "up/x\r\nset-cookie: stolen=1\r\n\r\n{}")
    assert "set-cookie" not in answer.headers
    assert answer.status_code == 404
    assert up.requests == []

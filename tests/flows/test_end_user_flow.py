"""End users and tags of calls, in every API, tested through the whole application."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, serving
from tests.flows.operator import KEYED, Operator, bearer, digest

TOKEN = "lg-users-0123456789abcdef"
LIMITED = f"""
keys:
  app: {{ hash: "{digest(TOKEN)}", limits_per_user: {{ requests: 1/h }} }}
end_user_header: X-End-User
tags: [search, batch]
"""
REQUIRED = LIMITED.replace("limits_per_user: { requests: 1/h }", "require_end_user: true")
MESSAGE = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
BODIES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("/v1/chat/completions", chat(), {"user": "u"}),
    ("/v1/chat/completions", chat(), {"safety_identifier": "u"}),
    ("/v1/completions", {"model": "m", "prompt": "Hi"}, {"user": "u"}),
    ("/v1/messages", MESSAGE, {"metadata": {"user_id": "u"}}),
    ("/v1/responses", {"model": "m", "input": "Hi"}, {"user": "u"}),
    ("/v1/responses", {"model": "m", "input": "Hi"}, {"safety_identifier": "u"}),
]


async def post(client: httpx.AsyncClient, url: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """Send a call with the key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(url, json=body, headers={**bearer(TOKEN), **named})


async def test_a_user_is_the_same_in_every_api_and_field(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, LIMITED) as gateway:
        statuses = [(await post(client, gateway.url + path, {**body, **user})).status_code for path, body, user in BODIES]
        by_header = await post(client, f"{gateway.base_url}/chat/completions", chat(), x_end_user="u")
        other = await post(client, f"{gateway.base_url}/chat/completions", {**chat(), "user": "u"}, x_end_user="v")
    assert [*statuses, by_header.status_code, other.status_code] == [200, *[429] * (len(BODIES) - 1), 429, 200]


async def test_calls_without_a_user_count_as_one_user(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, LIMITED) as gateway:
        answers = [await post(client, gateway.url + path, body) for path, body, _ in BODIES[:4]]
        named = await post(client, f"{gateway.base_url}/chat/completions", {**chat(), "user": "-"})
    assert [answer.status_code for answer in [*answers, named]] == [200, 429, 429, 429, 200]
    assert "calls that name no end user" in answers[1].json()["error"]["message"]


@pytest.mark.parametrize(("path", "body", "user"), BODIES)
async def test_a_key_can_require_a_user(
    up: FaultUpstream, client: httpx.AsyncClient, path: str, body: dict[str, Any], user: dict[str, Any]
) -> None:
    async with serving(up, REQUIRED) as gateway:
        refused = await post(client, gateway.url + path, body)
        explained = await post(client, gateway.url + path + "/explain", body)
        assert (refused.status_code, explained.status_code) == (400, 400)
        assert refused.json()["error"]["param"] == ("metadata.user_id" if "messages" in path else "user")
        assert len(up.requests) == 0
        blank = {"metadata": {"user_id": " "}} if "messages" in path else dict.fromkeys(user, " ")
        assert (await post(client, gateway.url + path, {**body, **blank})).json()["error"]["code"] == "end_user_required"
        assert (await post(client, gateway.url + path, {**body, **user})).status_code == 200
        assert (await post(client, gateway.url + path, body, x_end_user="u")).status_code == 200
        ends = {record.get("end_user") for record in await gateway.records(4)}
    assert ends == {None, "u"}
    assert all("x-end-user" not in request.headers for request in up.requests)


async def test_usage_is_added_up_by_tag(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, LIMITED.replace("1/h", "99/h") + KEYED) as gateway:
        url, operator = f"{gateway.base_url}/chat/completions", Operator(client, gateway)
        await post(client, url, chat(), x_gateway_tags="search, batch")
        await post(client, url, chat(), x_gateway_tags="search")
        await post(client, url, {**chat(), "metadata": {"tags": "batch,own"}})
        await post(client, url, {**chat(), "metadata": {"tags": "batch"}}, x_gateway_tags="search")
        await post(client, url, chat())
        refused = await post(client, url, chat(), x_gateway_tags="serch")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-gateway-tags")
        await gateway.records(6)
        usage = (await operator.ask("GET", "/../usage?by=tag")).json()
    assert {row["tag"]: row["requests"] for row in usage["rows"]} == {"search": 3, "batch": 3, "": 1}
    assert usage["total"]["requests"] == 5
    assert all("x-gateway-tags" not in request.headers for request in up.requests)

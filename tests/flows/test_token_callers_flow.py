"""Callers with signed tokens (JWT): the same APIs, limits, budgets, teams, log and ledger as callers with a key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.keys import issuer_keys
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, held, post_as, post_chat, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import ADMIN, KEYED, bearer, digest
from tests.support.apis import ALL
from tests.support.issuer import TokenIssuer, move_clock, private_key, public_jwk
from tests.support.websocket_peer import accept, connected, handshake, socket_server

KEY = "lg-app-0123456789abcdef"
ENVIRON = {"UP_KEY": CREDENTIAL}


@pytest.fixture
async def issuer() -> AsyncIterator[TokenIssuer]:
    """Return a serving issuer with one key."""
    async with TokenIssuer() as serving_issuer:
        serving_issuer.add_key("k1")
        yield serving_issuer


def trusting(issuer: TokenIssuer, up: FaultUpstream, settings: str = "", rest: str = "", **more: Any) -> AbstractAsyncContextManager[Live]:
    """Serve a gateway that accepts the issuer's tokens and one key, and passes files."""
    keys = f"keys:\n  app: {{ hash: '{digest(KEY)}', team: search }}\nteams: {{ search: {{ limits: {{ requests: 4/h }} }}, ops: {{}} }}\n"
    passed = "passthrough: { /v1/files: up, /v1/realtime: { provider: up, websocket: true } }\n"
    return serving(up, f"{issuer.settings(settings)}{keys}{passed}{KEYED}{rest}", **more)


async def ask(client: httpx.AsyncClient, gateway: Live, token: str, **more: Any) -> tuple[int, str | None]:
    """Make one call. Return its status and the code of its error."""
    answer = await post_chat(client, gateway, headers=bearer(token), **more)
    return answer.status_code, answer.json()["error"]["code"] if answer.status_code != 200 else None


def masked(lines: list[dict[str, Any]]) -> str:
    """Return log lines as text."""
    return json.dumps(lines)


async def test_a_token_is_accepted_in_every_api_and_header(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with trusting(issuer, up) as gateway:
        token = issuer.token()
        for api in ALL:
            for headers in (bearer(token), {"x-api-key": token}, {"api-key": token}, {"x-goog-api-key": token}):
                answer = await post_as(api, client, gateway, headers=headers)
                assert answer.status_code == 200, api.name
        records = await gateway.records(4 * len(ALL))
    assert {record["key"] for record in records} == {"staff/alice"}
    assert token.split(".")[1] not in masked(records)
    assert all(token not in str(request.headers) for request in up.requests)
    assert {request.header("authorization") for request in up.requests} == {f"Bearer {CREDENTIAL}"}


DOORS = [
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"), ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/responses"), ("POST", "/v1/responses/input_tokens"),
    ("GET", "/v1/responses/resp_1"), ("DELETE", "/v1/responses/resp_1"), ("GET", "/v1/responses/resp_1/input_items"),
    ("POST", "/v2/chat"), ("POST", "/v2/rerank"), ("POST", "/v1/rerank"), ("POST", "/v1/tokenize"), ("POST", "/v1/detokenize"),
    ("POST", "/v1/explain"), ("GET", "/v1/models"), ("GET", "/v1/models/m"), ("GET", "/v1/key"), ("GET", "/openapi.json"),
    ("GET", "/v1/files"), ("GET", "/v1/unknown"), ("GET", "/v1/chat/completions"), ("POST", "/openai/deployments/m/chat/completions"),
]  # fmt: skip


async def test_a_rejected_token_has_the_shape_of_each_api(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    other = TokenIssuer()
    other.url, other.private = issuer.url, {"k1": ("ES256", private_key("ES256", 2))}
    rejected = {
        "token_expired": issuer.token(exp=int(time.time()) - 3600),
        "invalid_token": other.token(),
        "token_not_allowed": issuer.token(roles=["none"]),
        "team_unknown": issuer.token(roles=["dev"], team="none"),
    }
    async with trusting(issuer, up, "policy_claim: roles, policies: { dev: {} }, team_claim: team") as gateway:
        for code, token in rejected.items():
            status = 401 if code in ("token_expired", "invalid_token") else 403
            for method, path in DOORS:
                body = None if method != "POST" else chat()
                answer = await client.request(method, gateway.url + path, json=body, headers=bearer(token))
                assert answer.status_code == status, (code, path)
                shown = answer.json()
                if path.startswith("/v1/messages"):
                    kind = {401: "authentication_error", 403: "permission_error"}[status]
                    assert (shown["type"], shown["error"]["type"]) == ("error", kind), path
                elif path.startswith("/v2/"):
                    assert isinstance(shown["message"], str), path
                else:
                    assert (shown["error"]["code"], shown["error"]["type"]) == (code, "invalid_request_error"), path
                assert (answer.headers.get("www-authenticate") == 'Bearer error="invalid_token"') == (status == 401), path
                assert all(part not in answer.text for part in token.split("."))
            assert gateway.count("lockgate_auth_failures", code) > 0
            async with connected(gateway.port, handshake("/v1/realtime?model=x", f"authorization: Bearer {token}".encode())) as peer:
                assert peer.status == status
        assert all(token not in masked(gateway.lines()) for token in rejected.values())
    assert up.requests == []


async def test_all_tokens_of_a_caller_share_its_budget(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with trusting(issuer, up, "policies: { '*': { limits: { requests: 3/h } } }") as gateway:
        first, second, bob = issuer.token(jti="1"), issuer.token(jti="2"), issuer.token(sub="bob")
        assert first != second
        answers = [await ask(client, gateway, token) for token in (first, second, first, second, first)]
        assert answers == [(200, None)] * 3 + [(429, "rate_limit_exceeded")] * 2
        assert await ask(client, gateway, bob) == (200, None)
        refused = await post_chat(client, gateway, headers=bearer(first))
        assert "the key 'staff/alice'" in refused.json()["error"]["message"]
        shown = (await client.get(f"{gateway.admin_url}/admin/limits?owner=key:staff/alice", headers=bearer(ADMIN))).json()["data"]
        assert [(one["owner"], one["name"], one["limit"], one["used"]) for one in shown] == [("key", "staff/alice", 3, 3)]
        other = (await client.get(f"{gateway.admin_url}/admin/limits?owner=key:none/alice", headers=bearer(ADMIN))).json()["data"]
        assert other == []


async def test_a_team_is_shared_by_keys_and_tokens(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with trusting(issuer, up, "team_claim: groups, teams: { g-1: search }") as gateway:
        callers = [issuer.token(groups=["x", "g-1"]), KEY, issuer.token(sub="bob", groups="g-1"), KEY]
        assert [await ask(client, gateway, token) for token in callers] == [(200, None)] * 4
        answer = await post_chat(client, gateway, headers=bearer(callers[0]))
        assert answer.status_code == 429
        assert "the team 'search'" in answer.json()["error"]["message"]
        usage = (await client.get(f"{gateway.admin_url}/admin/usage?by=team", headers=bearer(ADMIN))).json()
        assert [(line["team"], line["requests"]) for line in usage["rows"]] == [("search", 4)]
        keys = (await client.get(f"{gateway.admin_url}/admin/usage?by=key", headers=bearer(ADMIN))).json()
        assert {line["key"]: line["requests"] for line in keys["rows"]} == {"app": 2, "staff/alice": 1, "staff/bob": 1}


async def test_a_policy_sets_models_tags_and_strictness(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    policies = "{ dev: { models: [m], tags: [chat], strict: true, require_end_user: true }, '*': { models: [] } }"
    settings = f"policy_claim: realm_access.roles, policies: {policies}, user_claim: email"
    async with trusting(issuer, up, settings, "tags: [chat, batch]\nend_user_header: x-user\n", kind="openai") as gateway:
        dev = issuer.token(realm_access={"roles": ["dev"]}, email="alice@example.com")
        headers = {**bearer(dev), "x-gateway-tags": "batch", "x-user": "mallory"}
        answer = await post_chat(client, gateway, headers=headers, user="mallory")
        assert answer.status_code == 200
        (record,) = await gateway.records(1)
        assert (record["end_user"], record["tags"]) == ("alice@example.com", ["batch", "chat"])
        assert await ask(client, gateway, dev, top_k=3) == (400, "unsupported_parameter")
        assert await ask(client, gateway, issuer.token(email="bob@example.com")) == (403, "model_not_allowed")
        models = await client.get(f"{gateway.url}/v1/models", headers=bearer(dev))
        assert [model["id"] for model in models.json()["data"]] == ["m"]


async def test_each_end_user_of_an_application_has_limits(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    settings = "caller_claim: azp, user_claim: sub, policies: { '*': { limits_per_user: { requests: 1/h } } }"
    async with trusting(issuer, up, settings) as gateway:
        tokens = [issuer.token(azp="web", sub=name) for name in ("alice", "bob", "alice")]
        assert [(await ask(client, gateway, token))[0] for token in tokens] == [200, 200, 429]
        shown = (await client.get(f"{gateway.admin_url}/admin/usage?by=key", headers=bearer(ADMIN))).json()
        assert [(line["key"], line["requests"]) for line in shown["rows"]] == [("staff/web", 2)]


async def test_a_caller_sees_its_own_limits(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    policy = "policies: { '*': { team: search, models: [m], limits: { requests: 9/h } } }, user_claim: email"
    async with trusting(issuer, up, policy) as gateway:
        until = int(time.time()) + 600
        token = issuer.token(email="alice@example.com", exp=until)
        assert await ask(client, gateway, token) == (200, None)
        shown = (await client.get(f"{gateway.url}/v1/key", headers=bearer(token))).json()
    assert (shown["name"], shown["team"], shown["models"], shown["policy"], shown["end_user"]) == (
        "staff/alice", "search", ["m"], "*", "alice@example.com",
    )  # fmt: skip
    assert shown["expires"].startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until)))
    used = [(limit["owner"], limit["name"], limit["used"]) for limit in shown["limits"]]
    assert used == [("key", "staff/alice", 1), ("team", "search", 1)]
    assert token not in str(shown)


async def test_a_token_whose_expiry_no_calendar_has_is_shown_with_the_last_date(
    up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient
) -> None:
    async with trusting(issuer, up) as gateway:
        for until in (253_402_300_799, int(time.time() * 1e6)):  # the end of the year 9999, and a time in the wrong unit
            token = issuer.token(exp=until)
            assert await ask(client, gateway, token) == (200, None)
            shown = (await client.get(f"{gateway.url}/v1/key", headers=bearer(token))).json()
            assert shown["expires"] == "9999-12-31T23:59:59Z"


async def test_past_calls_and_metrics_have_the_name_of_the_caller(
    up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with trusting(issuer, up, "team_claim: team", f"journal: {tmp_path}\n") as gateway:
        assert await ask(client, gateway, issuer.token(team="ops")) == (200, None)
        await gateway.records(1)
        assert gateway.count("lockgate_key_requests", "staff/alice", "ops") == 1

        deadline, found = time.monotonic() + 30, []
        while not found and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            answer = await client.get(f"{gateway.admin_url}/admin/calls?key=staff/alice", headers=bearer(ADMIN))
            found = answer.json()["data"]
    assert [(call["key"], call["team"]) for call in found] == [("staff/alice", "ops")]


async def test_a_stored_response_belongs_to_the_caller(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with trusting(issuer, up) as gateway:
        body = {"model": "m", "input": "hello", "store": True}
        made = await client.post(f"{gateway.url}/v1/responses", json=body, headers=bearer(issuer.token()))
        path = f"{gateway.url}/v1/responses/{made.json()['id']}"
        callers = (issuer.token(jti="2"), issuer.token(sub="bob"), KEY)
        assert [(await client.get(path, headers=bearer(token))).status_code for token in callers] == [200, 404, 404]


async def test_a_new_signing_key_is_accepted_at_once(
    up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "MIN_INTERVAL_S", 0.0)
    async with trusting(issuer, up) as gateway:
        old = issuer.token()
        assert await ask(client, gateway, old) == (200, None)
        issuer.add_key("k2", "RS256")
        new = issuer.token()
        statuses = await asyncio.gather(*(ask(client, gateway, new) for _ in range(5)))
        assert statuses == [(200, None)] * 5
        assert await ask(client, gateway, old) == (200, None)
        models = await client.get(f"{gateway.url}/v1/models", headers=bearer(new))
        assert models.status_code == 200
        del issuer.private["k1"]
        issuer.add_key("k3", "EdDSA")
        assert await ask(client, gateway, issuer.token()) == (200, None)
        assert await ask(client, gateway, old) == (401, "invalid_token")


async def test_invented_key_ids_cause_no_flood_of_fetches(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with trusting(issuer, up) as gateway:
        assert await ask(client, gateway, issuer.token()) == (200, None)
        before = len(issuer.requests)
        tokens = [issuer.token(headers={"kid": f"../{number}"}) for number in range(50)]
        assert {await ask(client, gateway, token) for token in tokens} == {(401, "invalid_token")}
        assert len(issuer.requests) - before <= 2 * 2
        assert await ask(client, gateway, issuer.token()) == (200, None)


async def test_callers_are_served_while_the_issuer_is_down_and_after_a_restart(
    up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "MIN_INTERVAL_S", 0.0)
    rest = f"journal: {tmp_path}\n"
    async with trusting(issuer, up, "", rest) as gateway:
        assert await ask(client, gateway, issuer.token()) == (200, None)
        await issuer.close()
        assert await ask(client, gateway, issuer.token(sub="new")) == (200, None)
        unknown = await post_chat(client, gateway, headers=bearer(issuer.token(headers={"kid": "k2"})))
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "keys_unavailable")
        assert unknown.headers["retry-after"] == "1"
        assert [line for line in gateway.reports if "issuer staff: the keys cannot be fetched" in line]
    async with trusting(issuer, up, "", rest) as gateway:
        assert await ask(client, gateway, issuer.token(sub="later")) == (200, None)
        shown = (await client.get(f"{gateway.admin_url}/metrics", headers=bearer(ADMIN))).text
        assert 'lockgate_issuer_keys_timestamp_seconds{issuer="staff"} 1.' in shown
    async with trusting(issuer, up, "", f"journal: {tmp_path / 'empty'}\n") as gateway:
        assert await ask(client, gateway, issuer.token()) == (503, "keys_unavailable")
        await issuer.listen()
        assert await ask(client, gateway, issuer.token()) == (200, None)


async def test_a_stream_outlives_its_token(
    up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    up.on("/v1/chat/completions", held(release))
    async with trusting(issuer, up) as gateway:
        token = issuer.token()
        call = asyncio.create_task(post_chat(client, gateway, headers=bearer(token), stream=True))
        await eventually(lambda: len(up.requests) == 1)
        callers = gateway.gateway.generation.keys.tokens
        assert callers is not None
        move_clock(monkeypatch, callers, 700)
        assert (await client.get(f"{gateway.url}/v1/models", headers=bearer(token))).status_code == 401
        release.set()
        answer = await call
        assert answer.status_code == 200
        assert answer.text.endswith("data: [DONE]\n\n")
        assert await ask(client, gateway, token) == (401, "token_expired")


async def test_a_reload_changes_policies_and_keys_of_a_file(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    issuer = TokenIssuer()
    issuer.url = "https://login.example.com"
    issuer.add_key("k1")
    file = tmp_path / "keys.json"
    file.write_text(issuer.keys())
    async with trusting(issuer, up, f"jwks_file: '{file}'") as gateway:
        old = issuer.token()
        assert await ask(client, gateway, old) == (200, None)
        issuer.private.clear()
        issuer.add_key("k2", "RS256")
        assert await ask(client, gateway, issuer.token()) == (401, "invalid_token")
        file.write_text(issuer.keys())
        assert await gateway.reloader.reload() == "applied"
        assert await ask(client, gateway, issuer.token()) == (200, None)
        assert await ask(client, gateway, old) == (401, "invalid_token")
        text = gateway.path.read_text()
        gateway.path.write_text(text.replace("jwks_file:", "policies: { '*': { models: [] } }, jwks_file:"))
        assert await gateway.reloader.reload() == "applied"
        assert await ask(client, gateway, issuer.token()) == (403, "model_not_allowed")
        gateway.path.write_text(text.replace("jwks_file:", "blocked: [alice], jwks_file:"))
        assert await gateway.reloader.reload() == "applied"
        assert await ask(client, gateway, issuer.token()) == (403, "key_disabled")
        assert await ask(client, gateway, issuer.token(sub="bob")) == (200, None)
        gateway.path.write_text(text.replace(issuer.settings(f"jwks_file: '{file}'"), ""))
        assert await gateway.reloader.reload() == "applied"
        assert await ask(client, gateway, issuer.token()) == (401, "invalid_api_key")


async def test_a_reload_never_opens_a_gateway_with_an_issuer(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with serving(up, issuer.settings()) as gateway:
        assert (await post_chat(client, gateway)).status_code == 401
        gateway.path.write_text(gateway.path.read_text().replace(issuer.settings(), ""))
        assert await gateway.reloader.reload() == "failed"
        assert "set auth: keys" in str(gateway.reloader.problems[0])
        assert (await post_chat(client, gateway)).status_code == 401
        assert await ask(client, gateway, issuer.token()) == (200, None)


async def test_teams_created_at_run_time_have_tokens(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with trusting(issuer, up, "team_claim: team") as gateway:
        token = issuer.token(team="new")
        assert await ask(client, gateway, token) == (403, "team_unknown")
        team = {"name": "new", "limits": {"requests": "1/h"}}
        assert (await client.post(f"{gateway.admin_url}/admin/teams", json=team, headers=bearer(ADMIN))).status_code == 201
        assert [await ask(client, gateway, token) for _ in range(2)] == [(200, None), (429, "rate_limit_exceeded")]
        change = {"disabled": True}
        assert (await client.patch(f"{gateway.admin_url}/admin/teams/new", json=change, headers=bearer(ADMIN))).status_code == 200
        assert await ask(client, gateway, token) == (403, "key_disabled")


async def test_tokens_open_no_admin_path_and_no_key_takes_a_callers_name(
    up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient
) -> None:
    async with trusting(issuer, up) as gateway:
        for path in ("/metrics", "/admin/keys", "/admin/usage", "/admin/config"):
            assert (await client.get(gateway.admin_url + path, headers=bearer(issuer.token(sub="admin")))).status_code == 401
        answer = await client.post(f"{gateway.admin_url}/admin/keys", json={"name": "staff/alice"}, headers=bearer(ADMIN))
        assert answer.status_code == 400
        assert "belong to callers with a token of the issuer 'staff'" in answer.json()["error"]["message"]


async def test_a_passed_call_is_made_with_a_token(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    up.on("/v1/files", canned(b"{}"))
    async with trusting(issuer, up, "user_claim: email") as gateway:
        token = issuer.token(email="alice@example.com")
        assert (await client.get(f"{gateway.url}/v1/files", headers=bearer(token))).status_code == 200
        (record,) = await gateway.records(1)
    assert (record["key"], record["end_user"]) == ("staff/alice", "alice@example.com")
    assert up.requests[0].header("authorization") == f"Bearer {CREDENTIAL}"


async def test_the_openai_package_gets_a_new_token_for_each_call(up: FaultUpstream, issuer: TokenIssuer) -> None:
    tokens = [issuer.token(exp=int(time.time()) - 3600), issuer.token()]

    async def next_token() -> str:
        return tokens.pop(0)

    async with trusting(issuer, up) as gateway, httpx.AsyncClient(trust_env=False) as http_client:
        caller = openai.AsyncOpenAI(api_key=next_token, base_url=gateway.base_url, http_client=http_client, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as error:
            await caller.models.list()
        assert error.value.code == "token_expired"
        assert [model.id async for model in caller.models.list()] == ["m"]


async def test_a_websocket_is_opened_with_a_token_in_its_protocol(issuer: TokenIssuer) -> None:
    async with socket_server(accept) as server:
        yaml = f"""
providers: {{ up: {{ type: openai, base_url: "{server.base_url}", api_key: "${{UP_KEY}}" }} }}
models: {{ m: up/mock }}
passthrough: {{ /v1/realtime: {{ provider: up, websocket: true }} }}
{issuer.settings()}"""
        async with live(yaml, environ=ENVIRON) as gateway:
            for token, status in ((issuer.token(), 101), (issuer.token(aud="billing"), 401)):
                protocols = f"sec-websocket-protocol: realtime, openai-insecure-api-key.{token}".encode()
                async with connected(gateway.port, handshake("/v1/realtime?model=x", protocols)) as peer:
                    assert peer.status == status
    assert len(server.peers) == 1
    assert issuer.token().split(".")[0].encode() not in server.peers[0].head


async def test_an_issuer_vouches_only_for_its_own_callers(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    async with TokenIssuer() as partner:
        partner.add_key("k1", "ES256", 2)
        both = (("staff", issuer), ("partner", partner))
        entries = ", ".join(f"{name}: {{ issuer: '{one.url}', audience: lockgate }}" for name, one in both)
        async with serving(up, f"issuers: {{ {entries} }}\n") as gateway:
            for name, one in both:
                shown = (await client.get(f"{gateway.url}/v1/key", headers=bearer(one.token()))).json()
                assert shown["name"] == f"{name}/alice"
            assert await ask(client, gateway, partner.token(iss=issuer.url)) == (401, "invalid_token")
            assert await ask(client, gateway, issuer.token(iss=partner.url)) == (401, "invalid_token")


async def test_only_the_configured_algorithms_are_accepted(up: FaultUpstream, issuer: TokenIssuer, client: httpx.AsyncClient) -> None:
    issuer.published = json.dumps({"keys": [public_jwk(private_key("ES256"), "k1", alg="ES256", use="sig")]})
    async with trusting(issuer, up, "algorithms: [ES256]") as gateway:
        assert await ask(client, gateway, issuer.token()) == (200, None)
    async with trusting(issuer, up, "algorithms: [RS256]") as gateway:
        assert await ask(client, gateway, issuer.token()) == (401, "invalid_token")

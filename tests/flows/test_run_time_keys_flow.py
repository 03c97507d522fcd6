"""Keys that an operator creates, changes and revokes through the admin listener, and protection from other clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.commands import cli as command
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, one_model, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import ADMIN, FIRST, KEYED, REST, Operator, bearer, digest


@pytest.fixture
async def served(up: FaultUpstream) -> AsyncIterator[Live]:
    """Serve a gateway with an admin key."""
    async with serving(up, REST + KEYED) as gateway:
        yield gateway


@pytest.fixture
def operator(client: httpx.AsyncClient, served: Live) -> Operator:
    """Return the operator of that gateway."""
    return Operator(client, served)


async def test_new_key_works_at_once_with_its_limits(operator: Operator) -> None:
    answer = await operator.ask("POST", "", {"name": "new", "models": ["m"], "limits": {"requests": "2/h"}, "team": "search"})
    assert answer.status_code == 201
    created = answer.json()
    token = created.pop("key")
    assert len(token) == 46
    assert "note" not in created
    assert created["shown"] == f"{token[:6]}...{token[-4:]}"
    assert created["hash"] == digest(token)
    assert (created["source"], created["team"], created["limits"], created["disabled"]) == ("runtime", "search", {"requests": "2/h"}, False)
    answers = [await operator.call(token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "the key 'new'" in answers[2].json()["error"]["message"]
    assert (await operator.call(token, "other")).json()["error"]["code"] == "model_not_allowed"


async def test_new_keys_respect_token_limits_and_per_user_limits(operator: Operator) -> None:
    tokens = await operator.make("tokens", limits={"tokens": "50/h"})
    answer = await operator.call(tokens, max_tokens=1000)
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "tokens")
    users = await operator.make("users", limits_per_user={"requests": "1/h"})
    assert [(await operator.call(users, user=user)).status_code for user in "aab"] == [200, 429, 200]


async def test_key_list_contains_every_key_and_no_secret(operator: Operator) -> None:
    token = await operator.make("new", expires="2037-12-31", strict=True, limits={"concurrent": 3, "tokens": "1500/s", "outage": "closed"})
    listed = await operator.ask("GET")
    first, new = listed.json()["data"]
    assert (first["name"], first["source"], first["limits"], first["models"]) == ("first", "yaml", {"tokens": "250k/min"}, ["m"])
    assert (new["name"], new["expires"], new["strict"]) == ("new", "2038-01-01T00:00:00Z", True)
    assert new["limits"] == {"tokens": "1500/s", "concurrent": 3, "outage": "closed"}
    single = await operator.ask("GET", "/new")
    assert single.json() == new
    assert (await operator.ask("GET", "/first")).json() == first
    for text in (listed.text, single.text):
        assert token not in text
        assert token[3:-4] not in text


async def test_key_is_disabled_changed_and_revoked(served: Live, operator: Operator) -> None:
    token = await operator.make("new", limits={"requests": "100/h"})
    changed = await operator.ask("PATCH", "/new", {"disabled": True})
    assert (changed.status_code, changed.json()["disabled"], changed.json()["limits"]) == (200, True, {"requests": "100/h"})
    refused = await operator.call(token)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_disabled")
    await operator.ask("POST", "/new", {"disabled": False, "models": ["other"], "limits": None})
    assert "limits" not in (await operator.ask("GET", "/new")).json()
    assert [(await operator.call(token, model)).status_code for model in ("m", "other")] == [403, 200]
    revoked = await operator.ask("DELETE", "/new")
    assert (revoked.status_code, revoked.json()) == (200, {"object": "key", "name": "new", "revoked": True})
    refused = await operator.call(token)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await operator.ask("DELETE", "/new")).status_code == 404
    await eventually(lambda: sum("event" in line for line in served.lines()) == 4)
    log_events = [line for line in served.lines() if "event" in line]
    assert [(event["event"], event["key"], event["disabled"]) for event in log_events] == [
        ("key_made", "new", False), ("key_changed", "new", True), ("key_changed", "new", False), ("key_revoked", "new", False),
    ]  # fmt: skip
    assert all(event["shown"].startswith(token[:6]) and token not in str(event) for event in log_events)


@pytest.mark.parametrize(
    ("entry", "param", "message"),
    [
        ({}, "name", "'name' is required"),
        ({"name": 5}, "name", "'name' is required"),
        ({"name": " "}, "name", "a key's name must be"),
        ({"name": "n", "limits": {"request": "1/s"}}, "limits.request", "unknown key, did you mean 'requests'?"),
        ({"name": "n", "limits": {"requests": "-1/s"}}, "limits.requests", "a limit must be more than 0"),
        ({"name": "n", "limits": {"requests": "5"}}, "limits.requests", "the window is missing"),
        ({"name": "n", "limits": {"spend": "5 EUR/day"}}, "limits.spend", "the unit must be USD"),
        ({"name": "n", "limits": {"spend": "5 USD/day"}}, "limits.spend", "have no known prices"),
        ({"name": "n", "limits_per_user": {"concurrent": 0}}, "limits_per_user.concurrent", "at least 1"),
        ({"name": "n", "models": ["mm"]}, "models[0]", "no model 'mm' in this file, did you mean 'm'?"),
        ({"name": "n", "models": "m"}, "models", "expected a list"),
        ({"name": "n", "team": "serch"}, "team", "no team 'serch' in this file, did you mean 'search'?"),
        ({"name": "n", "expires": "soon"}, "expires", "expected a date"),
        ({"name": "n", "expires": "2020-02-29"}, "expires", "the key expired at 2020-03-01T00:00:00Z"),
        ({"name": "n", "limits": {"requests": None}}, "limits.requests", "got nothing: add a value, or remove 'requests'"),
        ({"name": "n", "limits_per_user": {"concurrent": None}}, "limits_per_user.concurrent", "expected an integer, got nothing"),
        ({"name": "n", "expires": "${HOME}"}, "expires", "HOME is not set"),
        ({"name": "n", "modles": []}, "modles", "unknown key, did you mean 'models'?"),
        ({"name": "n", "hash": "sha256:" + "0" * 64}, "hash", "'hash' is read-only"),
        ({"name": "n", "disabled": "yes"}, "disabled", "expected true or false"),
    ],
)
async def test_invalid_key_entry_is_rejected_with_its_path_and_a_fix(
    operator: Operator, entry: dict[str, Any], param: str, message: str
) -> None:
    answer = await operator.ask("POST", "", entry)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert message in answer.json()["error"]["message"]
    assert len((await operator.ask("GET")).json()["data"]) == 1


async def test_key_list_command_shows_the_state_of_each_key(
    up: FaultUpstream, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = f"  late: {{ hash: '{digest('lg-late-0123456789abcdef')}', expires: 2020-12-31 }}\n"
    monkeypatch.setenv("LOCKGATE_ADMIN_KEY", ADMIN)
    async with serving(up, REST + late + KEYED) as gateway:
        operator = Operator(client, gateway)
        await operator.make("off", disabled=True)
        await operator.make("new", expires="2037-12-31")
        assert await asyncio.to_thread(command.run, ["key", "list", "--admin", gateway.admin_url]) == 0
    assert [line.split("\t")[::3][:2] for line in capsys.readouterr().out.splitlines()] == [
        ["first", "valid"], ["late", "expired 2021-01-01T00:00:00Z"], ["off", "disabled"], ["new", "until 2038-01-01T00:00:00Z"],
    ]  # fmt: skip


async def test_key_with_a_budget_may_not_call_a_target_without_a_price(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """A configuration with such a key is rejected. A run-time key is not part of the configuration, so its call is rejected instead."""
    text = one_model(up, REST + KEYED).replace(
        "api_key:", "prices: { mock: { prompt: 1, output: 1 }, other: { prompt: 1, output: 1 } }, api_key:"
    )
    async with live(text, environ={"UP_KEY": CREDENTIAL}) as gateway:
        operator = Operator(client, gateway)
        token, free = await operator.make("new", limits={"spend": "5 USD/day"}), await operator.make("free")
        gateway.path.write_text(text.replace("  other: up/other\n", "  other: up/other\n  later: up/later\n"))
        assert await gateway.reloader.reload() == "applied"
        assert [(await operator.call(token, model)).status_code for model in ("m", "other")] == [200, 200]
        refused = await operator.call(token, "later")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "price_unknown")
        assert "up/later has no known price" in refused.json()["error"]["message"]
        assert (await operator.call(free, "later")).status_code == 200
    assert [request.json["model"] for request in up.requests] == ["mock", "other", "later"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PUT", "", "GET, HEAD, POST"), ("DELETE", "", "GET, HEAD, POST"), ("PUT", "/first", "DELETE, GET, HEAD, PATCH, POST")],
)
async def test_wrong_method_on_keys_lists_the_allowed_methods(operator: Operator, method: str, path: str, allow: str) -> None:
    answer = await operator.ask(method, path)
    error = answer.json()["error"]
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert (error["type"], error["message"]) == ("invalid_request_error", f"{method} is not allowed here. Use {allow}.")


async def test_patching_a_key_keeps_strict_limits(operator: Operator) -> None:
    limits = {"tokens": "20k/h", "strict": True}
    token = await operator.make("new", limits=limits, limits_per_user={"output_tokens": "9k/h", "strict": True})
    for entry in ({"disabled": True}, {"disabled": False}):
        changed = (await operator.ask("PATCH", "/new", entry)).json()
        assert (changed["limits"], changed["limits_per_user"]) == (limits, {"output_tokens": "9k/h", "strict": True})
    answer = await operator.call(token)
    assert '"max_tokens";set_default' in answer.headers["x-gateway-adjusted"]


async def test_expiry_in_the_past_is_rejected_only_when_it_is_set(operator: Operator) -> None:
    token = await operator.make("new", expires="2037-12-31", team=None)
    for entry in ({"expires": "2020-01-01"}, {"expires": "2020-01-01T00:00:00Z", "disabled": True}):
        answer = await operator.ask("PATCH", "/new", entry)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expires")
    assert (await operator.call(token)).status_code == 200
    soon = datetime.now(UTC) + timedelta(seconds=3)
    assert (await operator.ask("PATCH", "/new", {"expires": soon.isoformat()})).status_code == 200
    await asyncio.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.1)
    assert (await operator.call(token)).json()["error"]["code"] == "key_expired"
    changed = await operator.ask("PATCH", "/new", {"strict": True})  # an expired key can still be changed
    assert (changed.status_code, changed.json()["strict"]) == (200, True)


async def test_duplicate_key_name_is_rejected(operator: Operator) -> None:
    await operator.make("new")
    for name, message in (("first", "is defined in the configuration"), ("new", "already")):
        answer = await operator.ask("POST", "", {"name": name})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_exists")
        assert message in answer.json()["error"]["message"]
    for method in ("DELETE", "PATCH"):
        answer = await operator.ask(method, "/first", {} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_exists")


async def test_open_gateway_creates_no_keys(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, KEYED) as gateway:
        answer = await Operator(client, gateway).ask("POST", "", {"name": "new"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "keys_not_checked")
    assert "Set 'auth: keys' and admin.key_hash" in answer.json()["error"]["message"]


@pytest.mark.parametrize("attempt", ["no key", "wrong key", "caller key", "override", "bad host", "query"])
async def test_s8_only_the_admin_key_gives_access_to_keys(served: Live, client: httpx.AsyncClient, attempt: str) -> None:
    headers = {
        "no key": {}, "wrong key": bearer("lg-admin-0123456789abcdeg"), "caller key": bearer(FIRST), "query": {},
        "override": {"x-http-method-override": "GET", "x-original-url": "/healthz"}, "bad host": {"host": "localhost/healthz?x="},
    }[attempt]  # fmt: skip
    query = f"?key={ADMIN}&token={ADMIN}" if attempt == "query" else ""
    routes = ["GET ", "POST ", "GET /first", "PATCH /first", "POST /first", "DELETE /first", "GET /a/b"]
    for method, _, path in (route.partition(" ") for route in routes):
        answer = await client.request(method, f"{served.admin_url}/admin/keys{path}{query}", headers=headers, json={"name": "x"})
        assert answer.status_code == (400 if attempt == "bad host" else 401), answer.text
        assert ADMIN not in answer.text
    assert [key["name"] for key in (await Operator(client, served).ask("GET")).json()["data"]] == ["first"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "attacker.example"}, 403),
        ({"host": "attacker.example:8081"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"host": "localhost:8081", "content-type": "application/json; charset=utf-8"}, 201),
        ({"host": "[::1]:8081", "content-type": "application/json"}, 201),
    ],
)
async def test_without_an_admin_key_no_web_page_can_create_a_key(
    up: FaultUpstream, client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    async with serving(up, REST) as gateway:
        answer = await client.post(gateway.admin_url + "/admin/keys", content=b'{"name": "new"}', headers=headers)
    assert answer.status_code == status


async def test_duplicate_limit_is_rejected(served: Live, client: httpx.AsyncClient) -> None:
    headers = {**bearer(ADMIN), "content-type": "application/json"}
    twice = b'{"name": "new", "limits": {"requests": "1/min", "requests": "900/min"}}'
    answer = await client.post(served.admin_url + "/admin/keys", content=twice, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "limits.requests", "duplicate_key")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"name": "a", "name": "b"}', b"\xff", b"[" * 70_000, b'{"name": ' + b'"x' * 40_000])
async def test_malformed_key_request_is_rejected(served: Live, client: httpx.AsyncClient, body: bytes) -> None:
    headers = {**bearer(ADMIN), "content-type": "application/json"}
    answer = await client.post(served.admin_url + "/admin/keys", content=body, headers=headers)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["type"] == "invalid_request_error"

"""Sessions of the page: how they begin and end, their cookie and their CSRF token."""

from __future__ import annotations

import hashlib

import httpx
import msgspec
import pytest
from starlette.requests import Request

from gateway.admin.access import COOKIE, CSRF_HEADER, LIFETIME_S, MAX_SESSIONS, Access
from tests.admin.conftest import Admin

KEY = "admin-key-of-this-test-0123456789"
COOKIE_OF_PORT = f"{COOKIE}_8081"


@pytest.fixture
def keyed(admin: Admin) -> Admin:
    """An admin listener with an admin key."""
    return with_key(admin, KEY)


def with_key(admin: Admin, key: str) -> Admin:
    generation = admin.gateway.generation
    hash = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    settings = msgspec.structs.replace(generation.config.admin, key_hash=hash)
    generation.config = msgspec.structs.replace(generation.config, admin=settings)
    return admin


async def sign_in(admin: Admin, key: str = KEY, **headers: str) -> httpx.Response:
    return await admin.client.post("/admin/session", json={"key": key}, headers=headers)


async def test_session_reads_everything_and_writes_with_its_token(keyed: Admin) -> None:
    assert (await keyed.client.get("/admin/keys")).status_code == 401
    answer = await sign_in(keyed)
    assert answer.status_code == 201
    assert (await keyed.client.get("/admin/keys")).status_code == 200
    refused = await keyed.client.post("/admin/reload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_token_invalid")
    csrf = answer.json()["csrf"]
    assert (await keyed.client.post("/admin/reload", headers={CSRF_HEADER: csrf})).status_code == 200
    assert (await keyed.client.get("/admin/session")).json() == {"required": True, "open": True, "csrf": csrf}


async def test_cookie_is_hidden_from_scripts_and_from_other_sites(keyed: Admin) -> None:
    cookie = (await sign_in(keyed)).headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "path=/", f"max-age={LIFETIME_S:.0f}"):
        assert part in cookie
    assert "secure" not in cookie
    proxied = (await sign_in(keyed, **{"x-forwarded-proto": "https"})).headers["set-cookie"].lower()
    assert "secure" in proxied


async def test_wrong_key_opens_no_session(keyed: Admin) -> None:
    answer = await sign_in(keyed, "wrong")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert (await keyed.client.get("/admin/session")).json() == {"required": True, "open": False, "csrf": ""}


@pytest.mark.parametrize("body", [{}, {"key": 1}, {"key": KEY, "more": 1}])
async def test_sign_in_needs_a_key_and_nothing_else(keyed: Admin, body: dict[str, object]) -> None:
    answer = await keyed.client.post("/admin/session", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "key")


async def test_form_of_another_site_cannot_sign_in(keyed: Admin) -> None:
    answer = await keyed.client.post("/admin/session", content=b'{"key": "x"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


async def test_session_ends_when_it_is_closed(keyed: Admin) -> None:
    csrf = (await sign_in(keyed)).json()["csrf"]
    token = keyed.client.cookies[COOKIE_OF_PORT]
    assert (await keyed.client.delete("/admin/session")).status_code == 403
    ended = await keyed.client.delete("/admin/session", headers={CSRF_HEADER: csrf})
    assert ended.json()["open"] is False
    assert "max-age=0" in ended.headers["set-cookie"].lower()
    keyed.client.cookies.set(COOKIE_OF_PORT, token)
    assert (await keyed.client.get("/admin/keys")).status_code == 401


async def test_session_ends_with_the_admin_key(keyed: Admin) -> None:
    await sign_in(keyed)
    assert (await keyed.client.get("/admin/keys")).status_code == 200
    with_key(keyed, "another-admin-key-0123456789")
    assert (await keyed.client.get("/admin/keys")).status_code == 401


async def test_key_in_a_header_needs_no_token(keyed: Admin) -> None:
    assert (await keyed.client.post("/admin/reload", headers={"authorization": f"Bearer {KEY}"})).status_code == 200
    await sign_in(keyed)
    wrong = await keyed.client.get("/admin/keys", headers={"authorization": "Bearer wrong"})
    assert wrong.status_code == 401


async def test_listener_without_a_key_needs_no_session(admin: Admin) -> None:
    for answer in (await admin.client.get("/admin/session"), await admin.client.post("/admin/session", json={"key": "any"})):
        assert answer.json() == {"required": False, "open": True, "csrf": ""}
    foreign = await admin.client.get("/admin/session", headers={"host": "evil.example"})
    assert foreign.status_code == 403


async def test_sessions_expire_and_their_number_is_limited(keyed: Admin) -> None:
    now = [0.0]
    access = Access(keyed.gateway, lambda: now[0])
    tokens = []
    for _ in range(MAX_SESSIONS + 1):
        answer = await access.begin(request_of(b'{"key": "%s"}' % KEY.encode()))
        tokens.append(answer.headers["set-cookie"].partition(";")[0])
    states = [msgspec.json.decode((await access.show(request_of(cookie=token))).body)["open"] for token in (tokens[0], tokens[1])]
    assert states == [False, True]
    now[0] = LIFETIME_S
    assert msgspec.json.decode((await access.show(request_of(cookie=tokens[1]))).body)["open"] is False


def request_of(body: bytes = b"", cookie: str = "") -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json"), (b"cookie", cookie.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b"", "scheme": "http"}, receive)


@pytest.mark.parametrize("cookie", ["", "a=b", f"{COOKIE_OF_PORT}=", f'{COOKIE_OF_PORT}="', "=;;", "\x7f"])
async def test_strange_cookies_open_no_session(keyed: Admin, cookie: str) -> None:
    answer = await Access(keyed.gateway).show(request_of(cookie=cookie))
    assert msgspec.json.decode(answer.body)["open"] is False


async def test_gateways_on_two_ports_of_a_host_have_cookies_of_their_own(keyed: Admin) -> None:
    names = []
    for host in ("localhost:8081", "localhost:9081", "gateway.example", "[::1]"):
        answer = await sign_in(keyed, host=host)
        names.append(answer.headers["set-cookie"].partition("=")[0])
    assert names == [COOKIE_OF_PORT, f"{COOKIE}_9081", COOKIE, COOKIE]

"""The relay of the page's calls to the callers' listener, which is a scripted server here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from starlette.requests import Request

from gateway.admin.app import build_admin
from gateway.admin.relay import Relay
from tests.admin.conftest import Admin
from tests.faults.upstream_server import FIN, HANG, FaultUpstream, canned, play, status

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.fixture
async def page(admin: Admin, up: FaultUpstream) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the admin listener in front of `up`, which stands for the callers' listener."""
    app = build_admin(admin.gateway, admin.readiness, admin.reloader, (up.host, up.port))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8081") as client:
        yield client


async def test_call_and_its_streamed_answer_pass(page: httpx.AsyncClient, up: FaultUpstream) -> None:
    headers = {"x-virtual-key": "lg-abc", "x-gateway-receipt": "body", "anthropic-version": "2023-06-01", "x-session-id": "s"}
    answer = await page.post("/admin/relay/v1/chat/completions", json=BODY, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    (sent,) = up.requests
    assert sent.json == BODY
    for name, value in {**headers, "authorization": "Bearer lg-abc"}.items():
        assert sent.header(name) == (value if name != "x-virtual-key" else None)


async def test_operators_key_and_cookie_are_not_sent(page: httpx.AsyncClient, up: FaultUpstream) -> None:
    headers = {"authorization": "Bearer admin", "cookie": "lockgate_admin=secret", "x-csrf-token": "secret", "x-forwarded-for": "1.2.3.4"}
    await page.post("/admin/relay/v1/messages", json=BODY, headers=headers)
    assert [name for name in headers if up.requests[0].header(name) is not None] == []


async def test_refusal_of_a_call_passes_with_its_headers(page: httpx.AsyncClient, up: FaultUpstream) -> None:
    up.once(status(429, headers={"retry-after": "7", "set-cookie": "a=b", "x-request-id": "req_1"}))
    answer = await page.post("/admin/relay/v1/responses", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["x-request-id"]) == (429, "7", "req_1")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["healthz", "v1/models", "admin/keys", "v1/chat/completions/explain", "v1/../admin/keys"])
async def test_other_paths_cannot_be_reached(page: httpx.AsyncClient, up: FaultUpstream, path: str) -> None:
    assert (await page.post(f"/admin/relay/{path}", json=BODY)).status_code == 404
    assert up.requests == []


async def test_unreachable_listener_is_reported(admin: Admin) -> None:
    answer = await admin.client.post("/admin/relay/v1/chat/completions", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "relay_failed")


async def test_listener_with_tls_is_not_called(page: httpx.AsyncClient, admin: Admin, up: FaultUpstream) -> None:
    config = admin.gateway.generation.config
    admin.gateway.generation.config = msgspec.structs.replace(config, tls=object())
    answer = await page.post("/admin/relay/v1/chat/completions", json=BODY)
    admin.gateway.generation.config = config
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "relay_not_possible")
    assert up.requests == []


async def test_answer_that_breaks_off_ends(page: httpx.AsyncClient, up: FaultUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    up.once(play(head + b"6\r\ndata: \r\n", FIN))
    answer = await page.post("/admin/relay/v1/chat/completions", json=BODY)
    assert answer.text == "data: "


async def test_call_is_aborted_when_the_page_disconnects(admin: Admin, up: FaultUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\ndata: \r\n"
    up.once(play(head, HANG))
    relay = Relay(admin.gateway, (up.host, up.port))
    started, left = asyncio.Event(), asyncio.Event()
    messages = iter([{"type": "http.request", "body": msgspec.json.encode(BODY), "more_body": False}])

    async def receive() -> dict[str, object]:
        if (message := next(messages, None)) is not None:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            started.set()

    path = {"path": "v1/chat/completions"}
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "path_params": path}
    response = await relay.call(Request(scope, receive))
    passing = asyncio.create_task(response(scope, receive, send))
    async with asyncio.timeout(30):
        await started.wait()
        left.set()
        await passing
        while up.ledger.open:  # noqa: ASYNC110 - the server reports no event
            await asyncio.sleep(0.01)


async def test_address_of_all_interfaces_is_called_on_loopback(admin: Admin, up: FaultUpstream) -> None:
    up.once(canned(b"{}"))
    app = build_admin(admin.gateway, admin.readiness, admin.reloader, ("0.0.0.0", up.port))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8081") as client:
        assert (await client.post("/admin/relay/v1/chat/completions", json=BODY)).status_code == 200

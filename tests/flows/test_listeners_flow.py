"""The caller listener: CORS, TLS, disconnects, stalled readers, keepalive comments and missing bodies."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from gateway.http.caller import CallerDeadlines
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, issue_certificate, post_chat, serving
from tests.flows.live import eventually
from tests.support.plain_http import WITHOUT_AUTHORITIES

ORIGIN = "https://app.example"


async def test_cors_allows_only_configured_origins(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    preflight_headers = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    async with serving(up, f'cors: ["{ORIGIN}"]\n') as gateway:
        url = gateway.base_url + "/chat/completions"
        preflight = await client.options(url, headers={"origin": ORIGIN, **preflight_headers})
        foreign = await client.options(url, headers={"origin": "https://evil.example", **preflight_headers})
        answer = await client.post(url, json=chat(), headers={"origin": ORIGIN})
        refused = await client.post(url, json={}, headers={"origin": ORIGIN})
        other = await client.post(url, json=chat(), headers={"origin": "https://evil.example"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-origin" not in foreign.headers
    assert answer.headers["access-control-allow-origin"] == refused.headers["access-control-allow-origin"] == ORIGIN
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].lower().split(",")}
    assert exposed >= {"x-request-id", "retry-after-ms", "x-should-retry", "x-ratelimit-remaining-tokens", "x-gateway-limits"}
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in other.headers


async def test_without_cors_no_response_has_cors_headers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        headers = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
        preflight = await client.options(gateway.base_url + "/chat/completions", headers=headers)
        answer = await post_chat(client, gateway, headers={"origin": ORIGIN})
    assert preflight.status_code == 405
    assert not [name for response in (preflight, answer) for name in response.headers if name.startswith("access-control")]


async def test_caller_listener_serves_tls(up: FaultUpstream, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    tls = issue_certificate(authority, tmp_path)
    async with serving(up, tls) as gateway, httpx.AsyncClient(trust_env=False, verify=context) as client:
        assert gateway.url.startswith("https://")
        answer = await post_chat(client, gateway)
        streamed = await post_chat(client, gateway, stream=True)
        async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False) as stranger:
            with pytest.raises(httpx.ConnectError):
                await post_chat(stranger, gateway)
            with pytest.raises(httpx.RemoteProtocolError):
                await stranger.get(gateway.url.replace("https", "http"))
    assert answer.status_code == 200
    assert streamed.text.endswith("data: [DONE]\n\n")


async def send_raw(port: int, body: dict[str, Any], *, buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a call from a raw socket, optionally with a small receive buffer."""
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data))
    return reader, writer


@pytest.mark.parametrize("stream", [True, False])
async def test_disconnect_aborts_the_upstream_request(up: FaultUpstream, stream: bool) -> None:
    async with serving(up) as gateway:
        _, writer = await send_raw(gateway.port, chat(text="#chunks=5000##delay=20ms#", stream=stream))
        await up.wait_for(lambda up: len(up.requests) == 1 and (not stream or up.requests[0].events > 3))
        writer.transport.abort()
        await up.wait_for(lambda up: up.requests[0].left is not None)
        record = (await gateway.records(1))[0]
        assert gateway.count("lockgate_client_aborts", "mid" if stream else "pre") == 1
    assert (record["status"], record["aborted"]) == (499, "mid" if stream else "pre")


@pytest.mark.parametrize("cors", ["", f'cors: ["{ORIGIN}"]\n'], ids=["plain", "cors"])
async def test_stalled_reader_is_disconnected(up: FaultUpstream, cors: str) -> None:
    async with serving(up, cors, deadlines=CallerDeadlines(write_stall=0.5)) as gateway:
        reader, writer = await send_raw(gateway.port, chat("m", "x") | {"model": "m", "stream": True, "x": "#chunks=200000#"}, buffer=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: gateway.count("lockgate_client_aborts", "write_stall") == 1)
        assert (await gateway.records(1))[0]["aborted"] == "write_stall"
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        rest = await asyncio.wait_for(reader.read(1 << 30), 20)
        assert b"[DONE]" not in rest
        writer.transport.abort()
    assert up.requests[0].left is not None


async def test_silent_stream_gets_keepalive_comments(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, deadlines=CallerDeadlines(heartbeat=0.1)) as gateway:
        answer = await post_chat(client, gateway, text="#chunks=3##delay=600ms#", stream=True)
    assert ": keepalive\n\n" in answer.text
    without_comments = answer.text.replace(": keepalive\n\n", "")
    assert [line[:6] for line in without_comments.split("\n\n") if line] == ["data: "] * 6
    assert without_comments.endswith("data: [DONE]\n\n")


async def test_missing_body_gets_408(up: FaultUpstream) -> None:
    async with serving(up, deadlines=CallerDeadlines(body=0.3)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        record = (await gateway.records(1))[0]
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer
    assert record["status"] == 408
    assert up.requests == []


async def test_all_paths_are_served_below_the_base_path_too(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    passed = "passthrough: { '/v1/files/*': { provider: up } }\n"
    async with serving(up, passed + "callers: { base_path: /team/llm }\n") as gateway:
        base = gateway.url + "/team/llm"
        answers = [
            await client.post(f"{base}/v1/chat/completions", json=chat()),
            await client.post(f"{gateway.url}/v1/chat/completions", json=chat()),
            await client.get(f"{base}/v1/models"),
            await client.get(f"{base}/v1/files/a%2Fb"),
            await client.get(f"{gateway.url}/team/llmv1/models"),
            await client.get(f"{gateway.url}/team/llm"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 404, 404]
    assert [request.path for request in up.requests] == ["/v1/chat/completions", "/v1/chat/completions", "/v1/files/a%2Fb"]


async def test_health_of_the_callers_listener_is_shown_on_request_without_a_key(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    for settings, status in (("", 404), ("callers: { health: true }\n", 200)):
        async with serving(up, settings + "auth: keys\nadmin: { key_hash: 'sha256:" + "0" * 64 + "' }\n") as gateway:
            answer = await client.get(gateway.url + "/healthz")
            assert (answer.status_code, (await client.get(gateway.base_url + "/models")).status_code) == (status, 401)
    assert answer.json() == {"status": "ok"}


@pytest.mark.parametrize(("settings", "address"), [("", "127.0.0.1"), ("trusted_proxies: [127.0.0.1]\n", "203.0.113.9")])
async def test_log_has_the_address_of_the_caller_also_of_refused_calls(
    up: FaultUpstream, client: httpx.AsyncClient, settings: str, address: str
) -> None:
    forwarded = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}
    async with serving(up, settings) as gateway:
        await post_chat(client, gateway, headers=forwarded)
        await post_chat(client, gateway, "no such model", headers=forwarded)
        records = await gateway.records(2)
    assert [(record["status"], record["client"]) for record in records] == [(200, address), (404, address)]

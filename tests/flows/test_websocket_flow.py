"""WebSocket connections: keys, limits, rules for pages, metrics and a shutdown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.server.websockets import serve_websocket
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import Live, eventually, live
from tests.flows.operator import digest
from tests.support.connect_proxy import connect_proxy
from tests.support.websocket_peer import CLOSE, TEXT, Peer, SocketServer, accept, connected, handshake, socket_server

KEY = "lg-first-0123456789abcdef"
PATH = "/v1/realtime?model=gpt-realtime"
USAGE = {"total_tokens": 14, "input_tokens": 10, "output_tokens": 4}
DONE = json.dumps({"type": "response.done", "response": {"usage": USAGE}}).encode()


def yaml(server: SocketServer, key: str = "", provider: str = "", rest: str = "") -> str:
    """Return a configuration with one key that passes the realtime API."""
    return f"""
providers:
  up: {{ type: openai, base_url: "{server.base_url}", api_key: "${{UP_KEY}}", {provider} }}
models: {{ m: up/mock }}
passthrough:
  /v1/realtime: {{ provider: up, websocket: true }}
  /v1/files: up
{rest}
""" + (f"keys: {{ first: {{ hash: '{digest(KEY)}', {key} }} }}\n" if key != "none" else "")


@pytest.fixture
async def server() -> AsyncIterator[SocketServer]:
    """Return a server that reports usage for each frame."""

    async def script(peer: Peer) -> None:
        await accept(peer)
        while (frame := await peer.receive()).opcode != CLOSE:
            await peer.send(TEXT, DONE)
        await peer.send(CLOSE, frame.payload)

    async with socket_server(script) as found:
        yield found


FORMS = {
    "bearer": b"authorization: Bearer %b", "x-api-key": b"x-api-key: %b", "api-key": b"api-key: %b",
    "protocol": b"sec-websocket-protocol: realtime, openai-insecure-api-key.%b, openai-beta.realtime-v1",
}  # fmt: skip


async def test_each_form_of_a_key_is_accepted_and_none_reaches_the_provider(server: SocketServer) -> None:
    async with live(yaml(server), environ={"UP_KEY": CREDENTIAL}) as gateway:
        for form in FORMS.values():
            for key, status in ((KEY, 101), ("lg-unknown", 401)):
                async with connected(gateway.port, handshake(PATH, form % key.encode())) as client:
                    assert client.status == status, form
        async with connected(gateway.port, handshake(PATH)) as client:
            assert client.status == 401
        async with connected(gateway.port, handshake("/v1/undeclared")) as client:
            assert client.status == 401
    assert len(server.peers) == len(FORMS)
    for peer in server.peers:
        assert KEY.encode() not in peer.head
        assert peer.header("authorization") == f"Bearer {CREDENTIAL}"


async def test_hooks_decide_on_the_target_of_a_connection(server: SocketServer, tmp_path: Path) -> None:
    (tmp_path / "socket_rules.py").write_text(
        "from gateway.hooks.api import Headers, Hook, Skip\n"
        "class Closed(Hook):\n"
        "    def target(self, target):\n"
        "        return Skip('it is closed')\n"
        "class Owner(Hook):\n"
        "    def target(self, target):\n"
        "        return Headers({'authorization': 'Bearer of-' + target.call.key})\n"
    )
    sys.path.append(str(tmp_path))
    head = handshake(PATH, FORMS["bearer"] % KEY.encode())
    try:
        for hook, status in (("Closed", 400), ("Owner", 101)):
            text = yaml(server, rest=f"hooks: [socket_rules:{hook}]")
            async with live(text, environ={"UP_KEY": CREDENTIAL}) as gateway, connected(gateway.port, head) as client:
                assert client.status == status
        assert len(server.peers) == 1
        assert server.peers[0].header("authorization") == "Bearer of-first"
        assert server.peers[0].head.lower().count(b"\nauthorization:") == 1
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("socket_rules", None)


async def test_a_key_may_be_kept_from_the_path(server: SocketServer) -> None:
    head = handshake(PATH, FORMS["bearer"] % KEY.encode())
    async with (
        live(yaml(server, 'passthrough: ["/v1/files"]'), environ={"UP_KEY": CREDENTIAL}) as gateway,
        connected(gateway.port, head) as client,
    ):
        assert client.status == 403
        assert json.loads(await client.body())["error"]["code"] == "path_not_allowed"
    assert server.peers == []


async def test_each_connection_holds_a_place_until_it_is_closed(server: SocketServer) -> None:
    head = handshake(PATH, FORMS["protocol"] % KEY.encode())
    async with live(yaml(server, "limits: { concurrent: 1 }"), environ={"UP_KEY": CREDENTIAL}) as gateway:
        for _ in range(2):
            async with connected(gateway.port, head) as first:
                assert first.status == 101
                async with connected(gateway.port, head) as second:
                    assert second.status == 429
                await first.send(CLOSE, b"\x03\xe8")
                await first.receive()
                await eventually(lambda: gateway.gateway.metrics.in_flight == 0)


async def test_tokens_are_charged_to_limits_metrics_and_the_ledger(server: SocketServer) -> None:
    head = handshake(PATH, FORMS["bearer"] % KEY.encode())
    key = "limits: { tokens: 20/day }"
    async with live(yaml(server, key, "prices: { gpt-realtime: { prompt: 4, output: 16 } }"), environ={"UP_KEY": CREDENTIAL}) as gateway:
        async with connected(gateway.port, head) as client:
            for _ in range(2):
                await client.send(TEXT, b"x")
                assert (await client.receive()).payload == DONE
            await client.send(CLOSE, b"\x03\xe8")
            await client.receive()
            await client.ended()
        (record,) = await gateway.records(1)
        assert (record["prompt_tokens"], record["output_tokens"], record["status"]) == (20, 8, 101)
        assert record["cost_usd"] == pytest.approx((20 * 4 + 8 * 16) / 1e6)
        assert gateway.count("lockgate_tokens", "prompt", "reported") == 20
        assert gateway.count("lockgate_requests", "1xx") == 1
        async with connected(gateway.port, head) as client:
            assert client.status == 429


async def test_a_page_of_another_site_cannot_connect_to_a_gateway_without_keys(server: SocketServer) -> None:
    async with live(yaml(server, "none"), environ={"UP_KEY": CREDENTIAL}) as gateway:
        own = (b"origin: http://localhost:1", 101)
        for line, status in ((b"origin: https://evil.test", 403), (b"sec-fetch-site: cross-site", 403), own):
            async with connected(gateway.port, handshake(PATH, line)) as client:
                assert client.status == status, line
        foreign = handshake(PATH).replace(b"host: localhost", b"host: evil.test")
        async with connected(gateway.port, foreign) as client:
            assert client.status == 403


async def test_cors_does_not_concern_handshakes(server: SocketServer) -> None:
    async with live(yaml(server, rest='cors: ["https://app.test"]'), environ={"UP_KEY": CREDENTIAL}) as gateway:
        head = handshake(PATH, FORMS["protocol"] % KEY.encode(), b"origin: https://app.test")
        async with connected(gateway.port, head) as client:
            assert client.status == 101


async def test_a_shutdown_sends_both_sides_close_frames(server: SocketServer) -> None:
    running = live(yaml(server, "none"), environ={"UP_KEY": CREDENTIAL})
    gateway: Live = await running.__aenter__()
    async with connected(gateway.port, handshake(PATH)) as client:
        await client.send(TEXT, b"x")
        await client.receive()
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        frame = await client.receive()
        assert (frame.code, frame.payload[2:]) == (1012, b"the gateway is restarting")
        await client.send(CLOSE, frame.payload)
        assert await client.ended() == b""
        await stopping
    assert server.open == 0
    assert callable(serve_websocket)


async def test_connections_go_through_the_proxy_of_the_provider(server: SocketServer) -> None:
    async with connect_proxy("http", "--user", "me:pass") as proxy:
        for credentials, status in (("me:pass", 101), ("me:wrong", 502)):
            environ = {"UP_KEY": CREDENTIAL, "PROXY": proxy.url(credentials)}
            async with live(yaml(server, "none", 'proxy: "${PROXY}"'), environ=environ) as gateway:
                async with connected(gateway.port, handshake(PATH)) as client:
                    assert client.status == status
                    if status == 101:
                        await client.send(TEXT, b"x")
                        assert (await client.receive()).payload == DONE
                        await client.send(CLOSE, b"\x03\xe8")
                        await client.ended()
                    else:
                        error = json.loads(await client.body())["error"]
                        assert error["code"] == "upstream_connect_error"
                        assert "refused the credentials (status 407)" in error["message"]
                        assert "wrong" not in error["message"]
                (record,) = await gateway.records(1)
                assert record["status"] == status
            outcome = "accepted" if status == 101 else "refused"
            assert await proxy.next_tunnel() == f"127.0.0.1:{server.port} {outcome}"
    assert len(server.peers) == 1
    assert server.peers[0].header("authorization") == f"Bearer {CREDENTIAL}"

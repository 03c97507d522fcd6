"""Limits, budgets and brought credentials of WebSocket connections: usage is charged while a connection is open."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.flows.conftest import CREDENTIAL
from tests.flows.live import Live, eventually, live
from tests.flows.operator import digest
from tests.support.redis import RedisServer
from tests.support.websocket_peer import CLOSE, TEXT, Peer, SocketServer, accept, connected, handshake, socket_server

KEY = "lg-first-0123456789abcdef"
BROUGHT = "sk-of-the-caller-000000000"
DONE = json.dumps({"type": "response.done", "response": {"usage": {"total_tokens": 14, "input_tokens": 10, "output_tokens": 4}}}).encode()
BEARER = b"authorization: Bearer " + KEY.encode()
HEAD = handshake("/v1/realtime?model=gpt-realtime", BEARER)


def yaml(server: SocketServer, key: str, provider: str = "", store: str = "") -> str:
    """Return a configuration with one key that passes the realtime API."""
    prices = "{ gpt-realtime: { prompt: 4, output: 16 }, mock: { prompt: 1, output: 1 } }"
    return f"""
{store}
providers:
  up:
    {{ type: openai, base_url: "{server.base_url}", api_key: "${{UP_KEY}}", prices: {prices} {provider} }}
models: {{ m: up/mock }}
passthrough: {{ /v1/realtime: {{ provider: up, websocket: true }} }}
keys: {{ first: {{ hash: '{digest(KEY)}' {key} }} }}
"""


@pytest.fixture
def closed_with() -> list[int | None]:
    """Return a list to which the server appends each close code that it receives."""
    return []


@pytest.fixture
async def server(closed_with: list[int | None]) -> AsyncIterator[SocketServer]:
    """Return a server that reports 14 tokens, which cost 0.000104 USD, for each frame."""

    async def script(peer: Peer) -> None:
        await accept(peer)
        while (frame := await peer.receive()).opcode != CLOSE:
            await peer.send(TEXT, DONE)
        closed_with.append(frame.code)
        await peer.send(CLOSE, frame.payload)

    async with socket_server(script) as found:
        yield found


async def exchange(client: Peer, count: int = 1) -> None:
    """Send frames, and receive an answer for each."""
    for _ in range(count):
        await client.send(TEXT, b"x")
        assert (await client.receive()).payload == DONE


async def hang_up(client: Peer) -> None:
    """Close a connection in the usual way."""
    await client.send(CLOSE, b"\x03\xe8")
    await client.receive()
    await client.ended()


async def remaining(gateway: Live) -> int:
    """Return the remaining tokens that a new connection shows, and close it."""
    async with connected(gateway.port, HEAD) as client:
        left = int(client.header("x-ratelimit-remaining-tokens") or "-1")
        if client.status == 101:
            await hang_up(client)
    return left


LIMITS = {
    "tokens of the key": (", limits: { tokens: 40/day }", "", "40 tokens per day", "rate_limit_exceeded"),
    "budget of the key": (", limits: { spend: 0.0003 USD/day }", "", "The budget of 0.0003 USD per day", "insufficient_quota"),
    "tokens of the provider": ("", ", limits: { tokens: 40/day }", "40 tokens per day", "rate_limit_exceeded"),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_a_limit_that_is_used_up_closes_the_connection_after_the_response(
    server: SocketServer, closed_with: list[int | None], name: str
) -> None:
    key, provider, words, code = LIMITS[name]
    async with live(yaml(server, key, provider), environ={"UP_KEY": CREDENTIAL}) as gateway:
        async with connected(gateway.port, HEAD) as client:
            await exchange(client, 3)
            frame = await client.receive()
            assert (frame.opcode, frame.code) == (CLOSE, 1008)
            assert words in frame.payload[2:].decode()
            await client.send(CLOSE, frame.payload)
            assert await client.ended() == b""
        (record,) = await gateway.records(1)
        assert (record["prompt_tokens"], record["output_tokens"], record["stream_end"]) == (30, 12, "limit")
        assert record["error"] == code
        assert gateway.count("lockgate_limit_decisions", "refused") == 1
        async with connected(gateway.port, HEAD) as client:
            assert client.status == 429
    assert closed_with == [1001]


async def test_open_connections_share_what_each_of_them_uses(server: SocketServer) -> None:
    async with live(yaml(server, ", limits: { tokens: 70/day }"), environ={"UP_KEY": CREDENTIAL}) as gateway:
        async with connected(gateway.port, HEAD) as first, connected(gateway.port, HEAD) as second:
            await exchange(first, 3)
            await exchange(second, 2)
            assert (await second.receive()).code == 1008
        await gateway.records(2)
        assert await remaining(gateway) == 0


@pytest.mark.parametrize("store", ["memory", pytest.param("redis", marks=pytest.mark.prove)])
async def test_the_sum_of_all_charges_is_the_reported_usage(
    server: SocketServer, store: str, request: pytest.FixtureRequest
) -> None:
    shared: RedisServer | None = request.getfixturevalue("own_redis") if store == "redis" else None
    head = f"store: {shared.url}\nstore_deadline: 10s" if shared is not None else ""
    config = yaml(server, ", limits: { tokens: 1000/day, spend: 1 USD/day }", store=head)
    async with live(config, environ={"UP_KEY": CREDENTIAL}) as gateway:
        own = 2  # the reservation of the new connection
        assert await remaining(gateway) == 1000 - own
        async with connected(gateway.port, HEAD) as client:
            await exchange(client, 20)
            used = 0
            while used < 280:  # charged while the connection is open
                used = 1000 - 3 * own - await remaining(gateway)
            assert used == 280
            await exchange(client, 5)
            await hang_up(client)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        left = -1
        while left != 1000 - 350 - own:  # a shared store gets the last charge after the connection has ended
            left = await remaining(gateway)
            assert left <= 1000 - 350 - own, "more is left than was used"
        assert gateway.count("lockgate_tokens", "prompt", "reported") == 250
        assert gateway.count("lockgate_tokens", "output", "reported") == 100


async def test_a_brought_credential_reaches_the_provider_and_spares_the_budget(server: SocketServer) -> None:
    key = ", bring_credentials: [up], budget_brought_credentials: false, limits: { tokens: 1000/day, spend: 0.0003 USD/day }"
    head = handshake("/v1/realtime?model=gpt-realtime", BEARER, b"x-gateway-credential-up: " + BROUGHT.encode())
    async with live(yaml(server, key), environ={"UP_KEY": CREDENTIAL}) as gateway:
        async with connected(gateway.port, head) as client:
            assert client.status == 101
            await exchange(client, 5)
            await hang_up(client)
        (record,) = await gateway.records(1)
        assert record["brought_credentials"] == ["up"]
        assert (record["prompt_tokens"], record["stream_end"]) == (50, "ok")
        assert await remaining(gateway) == 1000 - 70 - 2
        async with connected(gateway.port, HEAD) as client:
            assert client.status == 101, "the budget is untouched"
            await exchange(client, 3)
            assert (await client.receive()).code == 1008
    credentials = [peer.header("authorization") for peer in server.peers]
    assert credentials[0] == f"Bearer {BROUGHT}"
    assert set(credentials[1:]) == {f"Bearer {CREDENTIAL}"}
    assert all(b"x-gateway-credential" not in peer.head.lower() for peer in server.peers)


async def test_a_credential_that_the_key_does_not_allow_is_refused_before_the_handshake(server: SocketServer) -> None:
    head = handshake("/v1/realtime", BEARER, b"x-gateway-credential-up: " + BROUGHT.encode())
    async with live(yaml(server, ""), environ={"UP_KEY": CREDENTIAL}) as gateway, connected(gateway.port, head) as client:
        assert client.status == 403
        assert json.loads(await client.body())["error"]["code"] == "credential_not_allowed"
    assert server.peers == []

"""WebSocket connections of declared paths, between peers over plain sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.http.caller import CallerDeadlines
from gateway.passthrough.websocket import WebSocketCaller
from tests.faults.conftest import CANARY, Gate, Serve
from tests.faults.tls import Certificates
from tests.flows.live import eventually
from tests.support.websocket_peer import (
    ACCEPT,
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    accept,
    connected,
    connecting,
    encode,
    handshake,
    socket_server,
)

RULE = {"provider": "p0", "websocket": True}
TOP = {"passthrough": {"/v1/realtime": RULE, "/v1/plain/*": {"provider": "p0"}}}
NORMAL = (1000).to_bytes(2, "big")


async def gate_of(serve: Serve, url: str, **rule: object) -> Gate:
    """Return a gateway that passes the realtime API to a server."""
    return await serve((url, "mock"), top={"passthrough": {**TOP["passthrough"], "/v1/realtime": {**RULE, **rule}}})


async def test_frames_pass_both_ways_as_they_are(serve: Serve) -> None:
    async with socket_server() as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            assert (client.status, client.header("sec-websocket-accept")) == (101, ACCEPT.decode())
            assert (client.header("upgrade"), client.header("connection")) == ("websocket", "Upgrade")
            assert client.header("x-gateway-target") == "p0/v1/realtime"
            await client.send(TEXT, "héllo".encode())
            assert await client.receive() == Frame(TEXT, "héllo".encode())
            for size in (0, 125, 126, 65535, 65536, 1 << 20):
                await client.send(BINARY, b"\x00" * size)
                assert await client.receive() == Frame(BINARY, b"\x00" * size)
            await client.send(TEXT, b"part", final=False)
            await client.send(PING, b"between")
            await client.send(0, b"rest")
            received = [await client.receive() for _ in range(3)]
            assert received == [Frame(TEXT, b"part", final=False), Frame(PONG, b"between"), Frame(0, b"rest")]
            await client.send(CLOSE, NORMAL)
            assert (await client.receive()).code == 1000
            assert await client.ended() == b""
    record = await gate.record(status=101, stream_end="ok", method="GET", target="p0/v1/realtime", model="/v1/realtime")
    assert record["request_bytes"] > 1 << 20 < record["response_bytes"]


async def test_the_handshake_has_the_providers_credential_and_the_callers_other_headers(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer, b"sec-websocket-protocol: realtime", b"set-cookie: a=b", b"x-request-id: theirs", b"content-length: 0")
        await peer.ended()

    lines = (
        b"authorization: Bearer sk-callers", b"x-api-key: sk-callers", b"cookie: a=b", b"openai-beta: realtime=v1", b"x-own: 1",
        b"sec-websocket-extensions: permessage-deflate", b"origin: http://localhost", b"sec-fetch-mode: websocket",
        b"sec-websocket-protocol: realtime, openai-insecure-api-key.sk-callers, openai-beta.realtime-v1",
    )  # fmt: skip
    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port, handshake("/v1/realtime?model=gpt-realtime&api-key=sk-callers&x=%20", *lines)) as client:
            assert (client.status, client.header("sec-websocket-protocol")) == (101, "realtime")
            assert (client.header("set-cookie"), client.header("sec-websocket-extensions")) == (None, None)
            assert (client.header("x-upstream-request-id"), client.header("content-length")) == ("theirs", None)
            assert "api-key" in (client.header("x-gateway-adjusted") or "")
            (peer,) = server.peers
        assert peer.head.startswith(b"GET /v1/realtime?model=gpt-realtime&x=%20 HTTP/1.1\r\n")
        assert b"sk-callers" not in peer.head
        assert peer.header("authorization") == f"Bearer {CANARY}"
        assert peer.header("host") == f"127.0.0.1:{server.port}"
        assert peer.header("sec-websocket-protocol") == "realtime, openai-beta.realtime-v1"
        names = {line.partition(b":")[0].decode() for line in peer.head.split(b"\r\n")[1:] if line}
        assert names == {
            "host", "connection", "upgrade", "authorization", "openai-beta", "x-own", "sec-websocket-version", "sec-websocket-key",
            "sec-websocket-protocol", "user-agent",
        }  # fmt: skip


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_caller_that_disconnects_closes_the_upstream(serve: Serve, end: str) -> None:
    async with socket_server() as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            await client.send(TEXT, b"x")
            await client.receive()
            client.close() if end == "close" else client.reset()
            await eventually(lambda: server.open == 0)
        record = await gate.record(status=499, aborted="mid")
        assert record["attempts"][0]["outcome"] == "left"


@pytest.mark.parametrize(("end", "outcome"), [("close", "truncated"), ("reset", "reset"), ("frame", "ok")])
async def test_an_upstream_that_disconnects_closes_the_caller_after_its_last_bytes(serve: Serve, end: str, outcome: str) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.receive()
        await peer.send(TEXT, b"last")
        if end == "frame":
            await peer.send(CLOSE, NORMAL)
            assert (await peer.receive()).code == 1000
        elif end == "reset":
            await peer.receive()
            peer.reset()

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            await client.send(TEXT, b"x")
            assert (await client.receive()).payload == b"last"
            if end == "frame":
                await client.send(CLOSE, (await client.receive()).payload)
            elif end == "reset":
                await client.send(TEXT, b"again")
            assert await client.ended() == b""
    record = await gate.record(status=101, stream_end=outcome)
    assert record["attempts"][0]["outcome"] == ("ok" if outcome == "ok" else outcome)


async def test_a_caller_that_ends_its_side_still_receives(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        assert await peer.ended() == b""
        await peer.send(TEXT, b"late")

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            client.writer.write_eof()
            assert (await client.receive()).payload == b"late"
            await client.ended()


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_a_caller_that_is_sending_gets_the_close_frame(
    serve: Serve, certificates: Certificates, trusted: Path, secure: bool
) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.receive()
        await peer.send(CLOSE, (4000).to_bytes(2, "big"))  # and closes at once, with frames of the caller unread

    async with socket_server(script, certificates.server_context() if secure else None) as server:
        gate = await serve((server.base_url, "mock"), top=TOP, first={"ca": str(trusted)} if secure else {})
        async with connected(gate.port) as client:
            for _ in range(50):
                await client.send(BINARY, b"x" * 2000)
            await eventually(lambda: server.open == 0)
            for _ in range(50):
                await client.send(BINARY, b"x" * 2000)
            frame = await client.receive()
            assert frame.code == 4000
            await client.send(CLOSE, frame.payload)
            await client.ended()
    await gate.record(status=101, stream_end="ok")


async def test_a_handshake_may_arrive_in_pieces(serve: Serve) -> None:
    wire = handshake() + encode(TEXT, b"early", masked=True)
    async with socket_server() as server:
        gate = await gate_of(serve, server.base_url)
        for cut in range(1, len(wire), 11):
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            client = Peer(reader, writer, is_client=True)
            await client.send_bytes(wire[:cut])
            await asyncio.sleep(0)
            await client.send_bytes(wire[cut:])
            await client.read_head()
            assert (client.status, await client.receive()) == (101, Frame(TEXT, b"early")), cut
            await client.send(CLOSE, NORMAL)
            assert (await client.receive()).code == 1000
            client.reset()


REFUSALS = {
    "length": b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n",
    "chunks": b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n11\r\n",
    "end": b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 401 Unauthorized\r\n"
    b"content-type: application/json\r\ncontent-length: 17\r\n\r\n",
}


@pytest.mark.parametrize("head", REFUSALS.values(), ids=REFUSALS)
async def test_the_refusal_of_an_upstream_reaches_the_caller(serve: Serve, head: bytes) -> None:
    body = b'{"error":"nope!"}'

    async def script(peer: Peer) -> None:
        await peer.send_bytes(head + body + (b"\r\n0\r\n\r\n" if b"chunked" in head else b""))

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            assert (client.status, client.header("content-type"), client.header("connection")) == (401, "application/json", "close")
            assert await client.body() == body
            await client.ended()
    await gate.record(status=401, target="p0/v1/realtime")


async def test_a_refusal_that_repeats_the_credential_is_masked(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        text = b"wrong key " + (peer.header("authorization") or "").encode()
        await peer.send_bytes(b"HTTP/1.1 403 Forbidden\r\ncontent-length: %d\r\n\r\n" % len(text) + text)

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            assert client.status == 403
            assert CANARY.encode() not in await client.body()


WRONG = {
    "accept": b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: eA==",
    "protocol": b"Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + ACCEPT,
    "no upgrade": b"Sec-WebSocket-Accept: " + ACCEPT,
    "extension": b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: x\r\nSec-WebSocket-Accept: " + ACCEPT,
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_a_101_that_is_not_the_answer_to_the_handshake_is_502(serve: Serve, headers: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_bytes(b"HTTP/1.1 101 Switching Protocols\r\n" + headers + b"\r\n\r\n")
        assert await peer.ended() == b""

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port, more=b"not for the upstream") as client:
            assert client.status == 502
            assert json.loads(await client.body())["error"]["code"] == "upstream_bad_response"


@pytest.mark.parametrize(("fault", "status"), [("silence", 504), ("close", 502), ("garbage", 502)])
async def test_an_upstream_that_does_not_answer_the_handshake_is_an_error(serve: Serve, fault: str, status: int) -> None:
    async def script(peer: Peer) -> None:
        if fault == "silence":
            await peer.ended()
        elif fault == "garbage":
            await peer.send_bytes(b"\x81\x05hello")

    async with socket_server(script) as server:
        gate = await serve((server.base_url, "mock"), top=TOP, first={"first_byte_timeout": "80ms"})
        async with connected(gate.port) as client:
            assert client.status == status
    assert (await gate.record(status=status))["target"] == "p0/v1/realtime"


async def test_a_caller_that_disconnects_during_the_handshake_ends_it(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.ended()

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connecting(gate.port) as client:
            await eventually(lambda: bool(server.peers))
            client.reset()
            await eventually(lambda: server.open == 0)
        record = await gate.record(status=499, aborted="pre")
        assert record["attempts"][0]["outcome"] == "left"


async def test_bytes_sent_with_the_handshakes_arrive(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        key = peer.header("sec-websocket-key")
        assert key
        head = b"HTTP/1.1 101 S\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-accept: "
        await peer.send_bytes(head + ACCEPT + b"\r\n\r\n\x81\x05hello")
        assert await peer.receive() == Frame(TEXT, b"early")
        await peer.send(CLOSE, NORMAL)
        await peer.receive()

    early = b"\x81\x85\x00\x00\x00\x00early"
    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port, more=early) as client:
            assert await client.receive() == Frame(TEXT, b"hello")
            await client.send(CLOSE, (await client.receive()).payload)
            await client.ended()
    await gate.record(status=101, stream_end="ok")


async def test_a_silent_connection_is_closed_after_its_idle_time(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        frame = await peer.receive()
        assert frame.code == 1001
        await peer.send(CLOSE, frame.payload)

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url, websocket_idle="50ms")
        async with connected(gate.port) as client:
            frame = await client.receive()
            assert frame.code == 1001
            await client.send(CLOSE, frame.payload)
            await client.ended()
    await gate.record(status=101, stream_end="idle")


def is_paused(gate: Gate) -> bool:
    """Return whether the caller of the only WebSocket connection accepts no data."""
    callers = list(gate.gateway.sweeper._swept)
    return any(isinstance(each, WebSocketCaller) and each.tunnel and each.tunnel.caller.paused_since for each in callers)


async def test_a_slow_reader_stops_the_sender(serve: Serve) -> None:
    total, sent = 64 << 20, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await accept(peer)
        while sent < total:
            await peer.send(BINARY, b"x" * 65536)
            sent += 65536

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port) as client:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await eventually(lambda: is_paused(gate))
            assert sent < total
            client.reset()
            await eventually(lambda: server.open == 0)
        await gate.record(status=499, aborted="mid")


USAGE = {
    "total_tokens": 140, "input_tokens": 100, "output_tokens": 40, "input_token_details": {"text_tokens": 60, "cached_tokens": 30},
    "output_token_details": {"text_tokens": 40},
}  # fmt: skip


async def test_the_usage_of_each_response_is_charged(serve: Serve) -> None:
    done = json.dumps({"type": "response.done", "response": {"object": "realtime.response", "usage": USAGE}}).encode()
    other = json.dumps({"type": "response.output_text.delta", "delta": 'about "response.done"', "response": {"usage": USAGE}}).encode()

    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.send(TEXT, done)
        await peer.send(TEXT, other)
        for at, final in ((0, False), (20, False), (len(done), True)):
            await peer.send(TEXT if not at else 0, done[at : at + 20] if not final else b"", final=final)
            await peer.send(PING)
        await peer.send(TEXT, done[:20], final=False)
        await peer.send(0, done[20:])
        frame = encode(TEXT, done)
        for byte in (frame[at : at + 1] for at in range(len(frame))):
            await peer.send_bytes(byte)
        await peer.send(CLOSE, NORMAL)
        await peer.receive()

    prices = {"gpt-realtime": {"prompt": 4, "output": 16}}
    async with socket_server(script) as server:
        gate = await serve((server.base_url, "mock"), top=TOP, first={"prices": prices})
        async with connected(gate.port) as client:
            while (frame := await client.receive()).opcode != CLOSE:
                continue
            await client.send(CLOSE, frame.payload)
            await client.ended()
    record = await gate.record(status=101, prompt_tokens=300, output_tokens=120, cached_tokens=90)
    assert record["cost_usd"] == pytest.approx((300 * 4 + 120 * 16) / 1e6)
    assert "estimated" not in record


async def test_a_reader_that_accepts_nothing_is_disconnected(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        while True:
            await peer.send(BINARY, b"x" * 65536)

    async with socket_server(script) as server:
        top = {"passthrough": TOP["passthrough"]}
        gate = await serve((server.base_url, "mock"), top=top, caller=CallerDeadlines(write_stall=0.05))
        async with connected(gate.port) as client:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await eventually(lambda: server.open == 0)
        await gate.record(status=499, aborted="write_stall")


UNDECLARED = {
    "/v1/audio/x": '"/v1/audio/*": { provider: PROVIDER, websocket: true }',
    "/other/x": '"/other/*": { provider: PROVIDER, path: "/*", websocket: true }',
    "/v1/plain/x": "Set 'websocket: true'",
    "/v1/chat/completions": "WebSocket is not supported",
}


async def test_a_handshake_of_another_path_is_426_and_nothing_after_it_is_a_request(serve: Serve) -> None:
    smuggled = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
    async with socket_server() as server:
        gate = await gate_of(serve, server.base_url)
        for path, advice in UNDECLARED.items():
            for cut in (0, 1, len(smuggled)):
                async with connected(gate.port, handshake(path), more=smuggled[:cut]) as client:
                    assert (client.status, client.header("connection")) == (426, "close")
                    error = json.loads(await client.body())["error"]
                    assert error["code"] == "upgrade_not_supported"
                    assert advice in error["message"]
                    assert await client.ended() == b""
        assert server.peers == []
    assert gate.lines() == []


BODIES = {
    "length": (b"content-length: 5",), "chunks": (b"transfer-encoding: chunked",), "no length": (b"content-length: 0",),
    "two keys": (b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",), "two versions": (b"sec-websocket-version: 13",),
    "two offers": (b"upgrade: h2c",),
}  # fmt: skip


@pytest.mark.parametrize("lines", BODIES.values(), ids=BODIES)
async def test_an_incomplete_handshake_or_one_with_a_body_is_rejected(serve: Serve, lines: tuple[bytes, ...]) -> None:
    async with socket_server() as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port, handshake("/v1/realtime", *lines), more=b"hello") as client:
            assert client.status in (400, 426)
            await client.ended()
        assert server.peers == []


async def test_a_handshake_behind_another_request_waits_or_is_rejected(serve: Serve) -> None:
    first = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    offer = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    async with socket_server() as server:
        gate = await gate_of(serve, server.base_url)
        for before in (first, offer):
            async with connected(gate.port, before) as client:
                assert client.status == 200
                await client.body()
                await client.send_bytes(handshake())
                await client.read_head()
                assert client.status == 101
                await client.send(TEXT, b"x")
                assert (await client.receive()).payload == b"x"
                await client.send(CLOSE, NORMAL)
                await client.receive()
            async with connected(gate.port, before + handshake()) as client:
                assert client.status == 200
                await client.body()
                await client.read_head()
                assert client.status == 426


async def test_a_plain_request_of_the_same_path_is_passed(serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with socket_server(script) as server:
        gate = await gate_of(serve, server.base_url)
        async with connected(gate.port, b"GET /v1/realtime HTTP/1.1\r\nhost: localhost\r\n\r\n") as client:
            assert (client.status, await client.body()) == (200, b"ok")
    await gate.record(status=200)

"""Requests on a raw socket that attack the framing: the result never depends on where the bytes are cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.caller import CallerDeadlines
from gateway.http.connection import MAX_READ_ON_BYTES
from gateway.http.rejection import MAX_HEAD_BYTES
from tests.faults.client import Answer, FaultClient, chat, request_head
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FaultUpstream
from tests.support.search import every, examples

BODY = json.dumps(chat()).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
KEYED = {"auth": "keys", "keys": {"k": {"hash": "sha256:" + "5b1a3c1f1d6a7b2e9c0d4f8a6e3b5c7d9f1e2a4b6c8d0e1f2a3b4c5d6e7f8091"}}}
ANY_CUTS = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pieces(wire: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut bytes at these positions."""
    edges = [0, *sorted({cut % len(wire) for cut in cuts} - {0}), len(wire)]
    return [wire[start:end] for start, end in pairwise(edges)]


async def send_in_pieces(client: FaultClient, wire: bytes, cuts: Sequence[int]) -> None:
    """Send each piece of the bytes in a TCP segment of its own."""
    for index, piece in enumerate(pieces(wire, cuts)):
        if index:
            await asyncio.sleep(0.0005)
        await client.send(piece)


async def answers_to(gate: Gate, wire: bytes, cuts: Sequence[int] = (), *, half_close: bool = False) -> list[Answer]:
    """Return every final response to these bytes. The last request must contain `connection: close`."""
    found: list[Answer] = []
    async with await FaultClient.connect(gate.port) as client:
        await send_in_pieces(client, wire, cuts)
        if half_close:
            client.half_close()
        while True:
            while b"\r\n\r\n" not in client.received and await client.read_some():
                continue
            if not client.received:
                return found
            answer = await client.answer()
            if answer.status != 100:
                found.append(answer)


UPGRADES = {
    "unknown": b"connection: upgrade\r\nupgrade: foo\r\n",
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
    "two": b"connection: close, upgrade\r\nupgrade: foo, h2c\r\nupgrade: TLS/1.2\r\n",
    "no connection": b"upgrade: h2c\r\n",
}
EACH_UPGRADE = pytest.mark.parametrize("offer", UPGRADES.values(), ids=UPGRADES)


@pytest.mark.search
@EACH_UPGRADE
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_an_upgrade_offer_changes_nothing_wherever_the_request_is_cut(
    serve: Serve, up: FaultUpstream, offer: bytes, chunked: bool
) -> None:
    gate = await serve((up, "mock"))
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    first = POST + offer + (CHUNKED if chunked else LENGTH) + b"\r\n" + body
    last = POST + b"connection: close\r\n" + LENGTH + b"\r\n" + BODY
    expected = [200] if b"close" in offer else [200, 200]
    for cut in every(range(1, len(first) + 40), 5):
        answers = await answers_to(gate, first + last, [cut])
        assert [answer.status for answer in answers][: len(expected)] == expected, cut
    assert {request.body.count(b"say something") for request in up.requests} == {1}


@pytest.mark.search
@EACH_UPGRADE
async def test_a_body_after_an_upgrade_offer_is_never_run_as_a_request(serve: Serve, up: FaultUpstream, offer: bytes) -> None:
    gate = await serve((up, "mock"))
    wire = POST + offer + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
    end = POST + b"connection: close\r\ncontent-length: 2\r\n\r\n[]"
    for cut in every(range(1, len(wire)), 3):
        answers = await answers_to(gate, wire + end, [cut])
        assert {answer.status for answer in answers} == {400}, cut
        assert len(answers) <= 2, cut
    assert up.requests == []


@ANY_CUTS
@given(cuts=st.lists(st.integers(1, 2000), max_size=12), offer=st.sampled_from(list(UPGRADES.values())), chunked=st.booleans())
async def test_pipelined_upgrade_offers_are_answered_in_order_with_any_cuts(
    offers: Gate, cuts: list[int], offer: bytes, chunked: bool
) -> None:
    offer = offer.replace(b"close, ", b"")
    body = b"%x;ext=%b\r\n%b\r\n0\r\nx-t: y\r\n\r\n" % (len(BODY), b"e" * 50, BODY) if chunked else BODY
    one = POST + offer + (CHUNKED if chunked else LENGTH) + b"\r\n" + body
    wire = one * 3 + POST + b"connection: close\r\n" + LENGTH + b"\r\n" + BODY
    assert [answer.status for answer in await answers_to(offers, wire, cuts)] == [200] * 4


@pytest.fixture
async def offers(serve: Serve, up: FaultUpstream) -> Gate:
    """A gateway in front of an upstream that answers everything."""
    return await serve((up, "mock"))


async def test_connect_and_websocket_are_rejected_and_closed(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    socket = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: foo, WebSocket\r\n\r\n"
    connect = b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for wire, status in ((socket, 426), (connect, 400)):
        for cut in range(len(wire)):
            assert [answer.status for answer in await answers_to(gate, wire + SMUGGLED, [cut])] == [status]
    assert up.requests == []


ENDLESS = {
    "trailer value": (b"0\r\nx: ", b"y" * 8192),
    "trailer name": (b"0\r\n", b"y" * 8192),
    "trailers": (b"0\r\n", b"x: y\r\n" * 1000),
    "extension": (b"5;a=", b"b" * 8192),
    "size": (b"", b"0" * 8192),
    "tiny chunks": (b"", b"1\r\n \r\n" * 1000),
    "extensions": (b"", b"1;" + b"x" * 4000 + b"\r\n \r\n"),
    "trailer after body": (b"%x\r\n%b\r\n0\r\nx: " % (len(BODY), BODY), b"y" * 8192),
}


async def flood(client: FaultClient, piece: bytes, most: int, pause: float = 0.0) -> int:
    """Send a piece again and again until the gateway stops reading or `most` bytes are sent. Return the bytes sent."""
    sent = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        while sent < most:
            async with asyncio.timeout(5):
                await client.send(piece)
            sent += len(piece)
            await asyncio.sleep(pause)
    return sent


@pytest.mark.parametrize("attack", ENDLESS)
async def test_endless_framing_of_a_chunked_body_is_431_and_closed(serve: Serve, up: FaultUpstream, attack: str) -> None:
    gate = await serve((up, "mock"))
    start, piece = ENDLESS[attack]
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(None) + start)
        sending = asyncio.create_task(flood(client, piece, 64 * MAX_HEAD_BYTES, 0.001))
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
        await client.until_closed()
        sending.cancel()
    assert gate.count("lockgate_edge_refusals", "headers_too_large") == 1
    assert up.requests == []


@pytest.mark.parametrize("cut", [1, 500, 4000, 16_000])
async def test_complete_trailers_are_limited_like_headers(serve: Serve, up: FaultUpstream, cut: int) -> None:
    gate = await serve((up, "mock"))
    head = request_head(None) + b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    for trailers, status in ((b"x: y\r\n" * 90, 200), (b"x: " + b"y" * 17_000 + b"\r\n", 431), (b"x: y\r\n" * 101, 431)):
        async with await FaultClient.connect(gate.port) as client:
            await send_in_pieces(client, head + trailers + b"\r\n", range(cut, 20_000, max(cut, 500)))
            assert (await client.answer()).status == status
    assert len(up.requests) == 1


async def test_trailers_do_not_become_headers_of_the_next_request(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top=KEYED)
    wire = POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nauthorization: Bearer x\r\nhost: other\r\n\r\n"
    last = POST + b"connection: close\r\n" + LENGTH + b"\r\n" + BODY
    for cut in range(len(POST), len(wire) + 10):
        answers = await answers_to(gate, wire + last, [cut])
        assert [answer.error["message"][:22] for answer in answers] == ["The API key is missing"] * 2


@pytest.mark.parametrize("attack", ["tiny chunks", "chunks", "length"])
async def test_after_an_early_401_some_bytes_are_read_on_and_then_the_connection_is_closed(
    serve: Serve, up: FaultUpstream, attack: str
) -> None:
    gate = await serve((up, "mock"), top=KEYED)
    piece = {"tiny chunks": b"1\r\n \r\n" * 200, "chunks": b"400\r\n%b\r\n" % (b" " * 1024), "length": b" " * 1024}[attack]
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(1 << 24 if attack == "length" else None))
        answer = await client.answer()
        assert answer.status == 401
        began = time.monotonic()
        sent = await flood(client, piece, 256 * MAX_READ_ON_BYTES, 0.0005)
        await client.until_closed()
        assert client.received == b""
    assert sent < 256 * MAX_READ_ON_BYTES
    assert time.monotonic() - began < 60
    assert up.requests == []


async def test_a_short_rest_after_an_early_401_leaves_the_connection_usable(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top=KEYED)
    async with await FaultClient.connect(gate.port) as client:
        for _ in range(3):
            await client.send(request_head(len(BODY)) + BODY[:10])
            assert (await client.answer()).status == 401
            await client.send(BODY[10:])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/explain"])
async def test_a_trailer_that_does_not_end_is_408(serve: Serve, up: FaultUpstream, path: str) -> None:
    deadlines = {"caller": CallerDeadlines(body=0.5)} if "chat" in path else {"top": {"callers": {"body": "500ms"}}}
    gate = await serve((up, "mock"), **deadlines)
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(None, path=path) + b"%x\r\n%b\r\n0\r\nx: " % (len(BODY), BODY))
        sending = asyncio.create_task(flood(client, b"y", 1000, 0.02))
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        await client.until_closed()
        sending.cancel()
    assert up.requests == []


@pytest.mark.parametrize("head", [b"connection: close\r\n", b""], ids=["close", "keep-alive"])
async def test_a_body_just_over_the_limit_is_read_on_after_the_413(serve: Serve, up: FaultUpstream, head: bytes) -> None:
    gate = await serve((up, "mock"), top={"max_body": "4MiB"})
    size = (4 << 20) + 1
    async with await FaultClient.connect(gate.port) as client:
        await client.send(POST + head + b"content-length: %d\r\n\r\n" % size)
        for _ in range(size >> 12):
            await client.send(b" " * 4096)  # raises if the connection is reset
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        await client.until_closed()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_caller_that_closes_its_writing_side_gets_its_answer(serve: Serve, up: FaultUpstream, stream: bool) -> None:
    up.delay = 0.03
    gate = await serve((up, "mock"))
    body = json.dumps(chat(stream=stream)).encode()
    wire = POST + b"content-length: %d\r\n\r\n" % len(body) + body
    (answer,) = await answers_to(gate, wire, half_close=True)
    assert answer.status == 200
    assert answer.complete
    assert answer.text == "w0 w1 w2 w3 w4 " if stream else answer.json["choices"]


async def test_pipelined_requests_are_all_answered_after_the_writing_side_was_closed(serve: Serve, up: FaultUpstream) -> None:
    up.delay = 0.03
    gate = await serve((up, "mock"))
    one = POST + LENGTH + b"\r\n" + BODY
    assert [answer.status for answer in await answers_to(gate, one * 2, half_close=True)] == [200, 200]
    assert [answer.status for answer in await answers_to(gate, one + b"NONSENSE\r\n\r\n", half_close=True)] == [200, 400]


@pytest.mark.parametrize("lines", [
    b"transfer-encoding: gzip, chunked\r\n", b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
    b"transfer-encoding: chunked, chunked\r\n", b"transfer-encoding: identity, chunked\r\n", b"transfer-encoding: gzip\r\n",
])  # fmt: skip
async def test_an_encoding_besides_chunked_is_400(serve: Serve, up: FaultUpstream, lines: bytes) -> None:
    gate = await serve((up, "mock"))
    wire = POST + lines + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    for cut in range(len(POST), len(POST + lines) + 8):
        (answer,) = await answers_to(gate, wire, [cut])
        assert (answer.status, answer.error["code"]) == (400, "invalid_http")
    assert up.requests == []


FOREIGN = {
    "name": (b"host: evil.example\r\n", "forbidden_host"),
    "name and port": (b"host: evil.example:8080\r\n", "forbidden_host"),
    "like loopback": (b"host: localhost.evil.example\r\n", "forbidden_host"),
    "address": (b"host: 192.168.1.7\r\n", "forbidden_host"),
    "origin": (b"host: localhost\r\norigin: https://evil.example\r\n", "forbidden_origin"),
    "no origin": (b"host: localhost\r\norigin: null\r\n", "forbidden_origin"),
    "site": (b"host: localhost\r\nsec-fetch-site: cross-site\r\n", "forbidden_origin"),
}


@pytest.mark.parametrize("case", FOREIGN)
async def test_a_listener_without_keys_rejects_web_pages_on_every_path(serve: Serve, up: FaultUpstream, case: str) -> None:
    gate = await serve((up, "mock"))
    lines, code = FOREIGN[case]
    for line in (b"GET /v1/models", b"GET /", b"OPTIONS /v1/chat/completions", b"POST /v1/chat/completions", b"POST /v1/explain"):
        wire = line + b" HTTP/1.1\r\n" + lines + LENGTH + b"\r\n" + BODY
        (answer,) = await answers_to(gate, wire)
        assert (answer.status, answer.error["code"]) == (403, code)
    assert gate.count("lockgate_edge_refusals", code) == 5
    assert up.requests == []


async def test_loopback_names_configured_names_and_keyed_listeners_are_served(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top={"hosts": ["gateway.internal"], "cors": ["https://app.example"]})
    for lines in (
        b"host: localhost:8080", b"host: LOCALHOST", b"host: 127.0.0.1", b"host: [::1]:1", b"host: app.localhost",
        b"host: Gateway.Internal:9", b"host: localhost\r\norigin: http://localhost:3000", b"host: localhost\r\nsec-fetch-site: none",
        b"host: localhost\r\norigin: https://app.example\r\nsec-fetch-site: cross-site", b"host: localhost\r\nsec-fetch-site: same-origin",
    ):  # fmt: skip
        wire = b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n" + lines + b"\r\n\r\n"
        assert [answer.status for answer in await answers_to(gate, wire)] == [200], lines
    keyed = await serve((up, "mock"), top=KEYED)
    wire = b"GET /v1/models HTTP/1.1\r\nconnection: close\r\nhost: evil.example\r\norigin: https://evil.example\r\n\r\n"
    assert [answer.status for answer in await answers_to(keyed, wire)] == [401]

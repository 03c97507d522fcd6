"""Request heads and framing that are slow, too large, malformed or of another protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from tests.faults.client import HELLO, MESSAGES, Answer, FaultClient, chat, request_head
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FaultUpstream

BODY = json.dumps(chat()).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
VALID_REQUEST = request_head(len(BODY)) + BODY


async def exchange(gate: Gate, wire: bytes) -> Answer:
    """Return the only answer to these bytes. Fail unless the gateway then closes the connection."""
    async with await FaultClient.connect(gate.port) as client:
        await client.send(wire)
        answer = await client.answer()
        await client.until_closed()
        assert client.received == b""
        return answer


async def assert_refused(gate: Gate, wire: bytes, status: int, code: str) -> None:
    """Check that these bytes get this error and close the connection."""
    answer = await exchange(gate, wire)
    assert (answer.status, answer.error["code"]) == (status, code), answer
    assert answer.header("connection") == "close"


@pytest.mark.parametrize("start", [b"", POST, POST + b"host: [::1]\r\nx-slow: "], ids=["nothing", "line", "header"])
async def test_c7_c8_an_incomplete_head_ends_at_its_timeout(serve: Serve, up: FaultUpstream, start: bytes) -> None:
    gate = await serve((up, "mock"), top={"callers": {"headers": "400ms"}})
    began = time.monotonic()
    if start:
        await assert_refused(gate, start, 408, "request_timeout")
        assert gate.count("lockgate_edge_refusals", "request_timeout") == 1
    else:
        async with await FaultClient.connect(gate.port) as client:
            await client.until_closed()
            assert client.received == b""
        assert gate.count("lockgate_edge_refusals", "idle") == 1
    assert 0.3 < time.monotonic() - began < 10
    assert up.ledger.accepted == 0


async def test_c11_an_encoded_body_is_415(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for encoding in ("gzip", "zstd", "br", "deflate, gzip"):
        answer = await gate.ask(chat(), (("content-encoding", encoding),))
        assert (answer.status, answer.error["code"]) == (415, "unsupported_content_encoding")
    assert up.requests == []


BAD_FRAMING = {
    "cl+te": LENGTH + b"transfer-encoding: chunked\r\n\r\n" + BODY,
    "te.te": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" + BODY,
    "unknown te": b"transfer-encoding: xchunked\r\n\r\n" + BODY,
    "two lengths": b"content-length: 1\r\n" + LENGTH + b"\r\n" + BODY,
    "plus": b"content-length: +5\r\n\r\n" + BODY,
    "minus": b"content-length: -5\r\n\r\n" + BODY,
    "folded": b"x-a: b\r\n  folded\r\n" + LENGTH + b"\r\n" + BODY,
    "bare lf": b"x-a: b\n" + LENGTH + b"\r\n" + BODY,
    "bad chunk": b"transfer-encoding: chunked\r\n\r\nzz\r\n" + BODY,
    "chunk end": b"transfer-encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
    "chunk extension": b"transfer-encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
    "nul": b"x-a: b\0c\r\n" + LENGTH + b"\r\n" + BODY,
    "space before colon": b"x-a : b\r\n" + LENGTH + b"\r\n" + BODY,
}


async def test_c21_ambiguous_framing_is_400_and_smuggles_no_request(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    smuggled = VALID_REQUEST.replace(b"say something", b"smuggled text")
    for case, framing in BAD_FRAMING.items():
        wire = POST + b"host: localhost\r\ncontent-type: application/json\r\n" + framing + smuggled
        answer = await exchange(gate, wire)
        assert answer.status == 400, (case, answer)
        assert answer.error["type"] == "invalid_request_error", case
    assert up.requests == []


async def test_c22_a_request_without_one_valid_host_is_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top={"hosts": ["gateway", "xn--bcher-kva.example"]})
    invalid = (b"", b"host: a\r\nhost: b\r\n", b"host: a/b?c=\r\n", b"host: a b\r\n", b"host: \r\n", b"host: a@b\r\n")
    for lines in invalid:
        await assert_refused(gate, POST + lines + LENGTH + b"\r\n" + BODY, 400, "invalid_host")
    assert gate.count("lockgate_edge_refusals", "invalid_host") == len(invalid)
    assert up.requests == []
    for host in (b"gateway", b"127.0.0.1:8080", b"[::1]:8080", b"xn--bcher-kva.example"):
        async with await FaultClient.connect(gate.port) as client:
            await client.send(POST + b"host: " + host + b"\r\n" + LENGTH + b"\r\n" + BODY)
            assert (await client.answer()).status == 200


async def test_c23_oversized_headers_are_431(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    many = b"\r\n".join(b"x-%d: y" % number for number in range(101))
    for more in (b"x: " + b"y" * 17_000, b"x: " + b"y" * 1_000_000, many, b"x" * 60_000 + b": y"):
        await assert_refused(gate, POST + b"host: [::1]\r\n" + more + b"\r\n" + LENGTH + b"\r\n" + BODY, 431, "headers_too_large")
    assert up.requests == []


async def test_c23_a_header_of_50_mb_is_refused_before_its_end(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        sent = 0
        await client.send(POST + b"host: [::1]\r\nx: ")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 50_000_000:
                await client.send(b"y" * 10_000)
                sent += 10_000
                await asyncio.sleep(0.002)
        assert sent < 50_000_000
    assert gate.count("lockgate_edge_refusals", "headers_too_large") == 1


STATUS_BY_PATH = {
    b"http://other.example/v1/chat/completions": 200,
    b"/v1/chat%2fcompletions": 200,
    b"//v1/chat/completions": 404,
    b"/v1//chat/completions": 404,
    b"/v1/%2e%2e/v1/chat/completions": 404,
    b"/V1/chat/completions": 404,
    b"/v1/chat/completions/": 404,
    b"/v1/chat/completions;x": 404,
    b"/v1/../admin/keys": 404,
}


async def test_c24_a_path_variant_never_bypasses_the_router(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for target, status in STATUS_BY_PATH.items():
        async with await FaultClient.connect(gate.port) as client:
            await client.send(b"POST " + target + b" HTTP/1.1\r\nhost: [::1]\r\n" + LENGTH + b"\r\n" + BODY)
            assert (await client.answer()).status == status, target
    assert len(up.requests) == sum(status == 200 for status in STATUS_BY_PATH.values())


async def test_c25_a_wrong_method_is_405(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for method in (b"GET", b"PUT", b"DELETE", b"PATCH"):
        async with await FaultClient.connect(gate.port) as client:
            await client.send(method + b" /v1/chat/completions HTTP/1.1\r\nhost: [::1]\r\n" + LENGTH + b"\r\n" + BODY)
            answer = await client.answer()
        assert (answer.status, answer.error["code"], answer.header("allow")) == (405, "method_not_allowed", "POST")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
async def test_c25_an_unsupported_content_type_is_415_before_its_body_arrives(serve: Serve, up: FaultUpstream, kind: str) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        head = request_head(10_000_000).replace(b"application/json", kind.encode())
        await client.send(head + b"a=1&" * 100)
        answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    await gate.record(status=415)


async def test_c29_a_valid_request_is_answered_before_the_invalid_one_pipelined_after_it(serve: Serve, up: FaultUpstream) -> None:
    up.delay = 0.02
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(VALID_REQUEST + b"NONSENSE\r\n\r\n")
        first, second = await client.answer(), await client.answer()
        await client.until_closed()
    assert first.status == 200
    assert first.json["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 "
    assert (second.status, second.error["code"]) == (400, "invalid_http")
    await gate.records(1)


async def test_c29_pipelined_requests_are_answered_in_order(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(VALID_REQUEST + VALID_REQUEST.replace(b"say something", b"a fine thing!"))
        answers = [await client.answer(), await client.answer()]
    assert [answer.status for answer in answers] == [200, 200]
    assert [request.json["messages"] for request in up.requests] == [MESSAGES, json.loads(HELLO.replace("say something", "a fine thing!"))]


OTHER_PROTOCOLS = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "random": bytes((number * 37 + 11) % 256 for number in range(500)),
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
}


async def test_c30_another_protocol_is_400_and_closes_the_connection(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for hello in OTHER_PROTOCOLS.values():
        await assert_refused(gate, hello, 400, "invalid_http")


async def test_c30_a_websocket_upgrade_is_426(serve: Serve, up: FaultUpstream) -> None:
    offer = b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
    head = b"GET /v1/chat/completions HTTP/1.1\r\nhost: [::1]\r\n" + offer
    await assert_refused(await serve((up, "mock")), head, 426, "upgrade_not_supported")


async def test_c30_an_h2c_upgrade_is_answered_in_http_1(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    async with await FaultClient.connect(gate.port) as client:
        await client.send(POST + b"host: [::1]\r\n" + offer + LENGTH + b"\r\n" + BODY)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(("length", "status"), [(1 << 40, 413), (10, 200)])
async def test_c31_100_continue_is_sent_only_for_an_accepted_body(serve: Serve, up: FaultUpstream, length: int, status: int) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(length if status == 413 else len(BODY), (("expect", "100-continue"),)))
        await client.read_until(b"\r\n\r\n")
        assert client.received.startswith(b"HTTP/1.1 100" if status == 200 else b"HTTP/1.1 413")


async def test_a_malformed_chunk_ends_the_call(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    await assert_refused(gate, request_head(None) + b"5\r\nabcde\r\nnot a chunk\r\n", 400, "invalid_http")
    record = await gate.record(target=None)
    assert record["status"] == 499

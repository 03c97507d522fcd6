"""Untrusted upstreams: name resolution, forbidden addresses, redirects, encoded answers and leaked credentials."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from gateway.upstream.resolver import Address, ThreadResolver, is_allowed_address
from tests.faults.behaviours import chat_chunk, status
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import CANARY, EACH_FORM, Serve
from tests.faults.upstream_server import FaultUpstream, canned
from tests.running import Figure
from tests.support.each import each
from tests.support.process_memory import resident_bytes


def resolved(host: str, port: int) -> list[Address]:
    """Return the result of a name lookup with one address."""
    return [(socket.AF_INET, (host, port))]


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL], ids=["nxdomain", "temporary", "servfail"])
async def test_u3_an_unresolvable_name_is_502_or_falls_back_to_the_next_target(serve: Serve, other: FaultUpstream, code: int) -> None:
    def lookup(host: str, port: int) -> list[Address]:
        raise socket.gaierror(code, "no such name")

    resolver = ThreadResolver(lookup=lookup)
    alone = await serve(("http://models.example:1/v1", "mock"), resolver=resolver)
    answer = await alone.ask(chat())
    assert (answer.status, answer.error["code"]) == (502, "upstream_dns_error")
    assert alone.count("lockgate_upstream_errors", "dns") == 1
    gate = await serve(("http://models.example:1/v1", "mock"), (other, "mock"), resolver=resolver)
    assert (await gate.ask(chat())).status == 200
    record = await gate.record(status=200)
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["dns", "ok"]


async def test_u3_slow_name_resolution_does_not_delay_other_upstreams(serve: Serve, figure: Figure, other: FaultUpstream) -> None:
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        if host.startswith("slow"):
            release.wait(20)
        return resolved("127.0.0.1", port)

    slow_upstreams = [(f"http://slow-{number}.example:{other.port}/v1", "mock") for number in range(40)]
    gate = await serve(
        (f"http://quick.example:{other.port}/v1", "mock"),
        *slow_upstreams,
        every={"connect": "20s"},
        more={f"slow-{number}": f"p{number + 1}/mock" for number in range(40)},
        resolver=ThreadResolver(lookup=lookup),
    )
    slow = [asyncio.create_task(gate.ask(chat(f"slow-{number}"))) for number in range(40)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    assert (await gate.ask(chat())).status == 200
    figure("call to another host in the meantime", (time.monotonic() - began) * 1000, "ms")
    assert not any(task.done() for task in slow)
    release.set()
    assert [answer.status for answer in await asyncio.gather(*slow)] == [200] * 40


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "224.0.0.1"])
async def test_u4_a_name_rebound_to_a_forbidden_address_is_blocked(serve: Serve, up: FaultUpstream, address: str, transport: str) -> None:
    answers = iter([resolved("127.0.0.1", up.port), resolved(address, up.port)])
    resolver = ThreadResolver(ttl=0, lookup=lambda host, port: next(answers))
    gate = await serve((f"http://rebound.example:{up.port}/v1", "mock"), resolver=resolver, every={"transport": transport})
    up.once(canned(json.dumps({"choices": []}).encode(), headers={"connection": "close"}))
    assert len(up.requests) == 0
    await gate.ask(chat())
    assert len(up.requests) == 1
    answer = await gate.ask(chat())
    assert (answer.status, answer.error["code"]) == (502, "upstream_blocked")
    assert address not in answer.error["message"]
    assert len(up.requests) == 1


@each(("address", "allowed"), [
    ("127.0.0.1", True), ("10.1.2.3", True), ("93.184.216.34", True), ("::1", True), ("2606:4700::1", True), ("169.254.169.254", False),
    ("fe80::1%eth0", False), ("::ffff:169.254.169.254", False), ("0.0.0.0", False), ("::", False), ("ff02::1", False),
])  # fmt: skip
def test_u4_link_local_unspecified_and_multicast_addresses_are_forbidden(address: str, allowed: bool) -> None:
    assert is_allowed_address(address) is allowed


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@EACH_FORM
async def test_u32_a_redirect_is_502_and_never_followed(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, code: int, stream: bool
) -> None:
    for location in (f"{other.base_url}/chat/completions", "http://169.254.169.254/latest/meta-data", "//127.0.0.1/x"):
        up.once(canned(b"", code, {"location": location}))
    gate = await serve((up, "mock"))
    for _ in range(3):
        answer = await gate.ask(chat(stream=stream))
        assert (answer.status, answer.error["code"]) == (502, "upstream_redirect")
        assert answer.header("location") is None
    assert other.ledger.accepted == 0
    assert len(up.requests) == 3


ENCODED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip.compress(bytes(64 << 20), 1)),
    "deflate": ("deflate", lambda: zlib.compress(bytes(64 << 20), 1)),
    "corrupt": ("gzip", lambda: b"corrupt"),
    "br": ("br", lambda: b"\x8b\x02"),
    "zstd": ("zstd", lambda: b"(\xb5/\xfd"),
}
"""Encodings and bodies that are small but huge after decoding, or that cannot be decoded."""


@pytest.mark.parametrize("name", ENCODED)
async def test_u33_an_encoded_answer_is_refused_and_never_decoded(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, name: str
) -> None:
    encoding, make_body = ENCODED[name]
    body = make_body()
    up.on(CHAT_PATH, canned(body, headers={"content-encoding": encoding}))
    gate = await serve((up, "mock"))
    assert (await gate.ask(chat())).error["code"] == "upstream_bad_response"
    before = resident_bytes(os.getpid())
    for stream in (False, True):
        answer = await gate.ask(chat(stream=stream))
        assert (answer.status, answer.error["code"]) == (502, "upstream_bad_response")
    grown = (resident_bytes(os.getpid()) - before) / (1 << 20)
    figure("memory for two bodies of 64 MiB after decoding", grown, "MiB")
    assert grown < 16
    assert {request.header("accept-encoding") for request in up.requests} == {"identity"}
    through = await serve((up, "mock"), (other, "mock"))
    assert (await through.ask(chat())).status == 200


ERRORS: list[tuple[int, Any]] = [
    (400, {"error": {"message": f"bad key {CANARY} in ?key={CANARY}", "type": CANARY, "param": CANARY, "code": CANARY}}),
    (401, {"error": {"message": f"Incorrect API key provided: {CANARY}", "type": "invalid_request_error", "code": None}}),
    (404, {"detail": f"https://models.example/v1?key={CANARY} was not found"}),
    (500, {"error": {"message": f"upstream said: Bearer {CANARY}", "code": CANARY}}),
    (503, f"no healthy host for {CANARY}"),
]


@pytest.mark.parametrize(("number", "body"), ERRORS, ids=[str(number) for number, _ in ERRORS])
@EACH_FORM
async def test_u44_a_credential_in_an_error_is_redacted(serve: Serve, up: FaultUpstream, number: int, body: Any, stream: bool) -> None:
    up.on(CHAT_PATH, canned(json.dumps(body).encode() if not isinstance(body, str) else body.encode(), number))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=stream))
    assert answer.status >= 400
    assert "***" in answer.error["message"]
    assert CANARY not in json.dumps(answer.headers)
    assert gate.metric("lockgate_secrets_redacted_total") >= 1


async def test_u44_a_secret_header_in_an_error_is_redacted(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, status(400, f"unknown token {CANARY}", code="bad_token"))
    gate = await serve((up, "mock"), first={"api_key": "${UNSET:-another-credential}", "headers": {"x-proxy-token": "${CANARY}"}})
    answer = await gate.ask(chat())
    assert answer.error["message"] == "unknown token ***"
    assert up.requests[0].header("x-proxy-token") == CANARY


async def test_u44_a_credential_in_an_error_event_is_redacted(serve: Serve, up: FaultUpstream) -> None:
    error = {"error": {"message": f"lost {CANARY}", "type": "server_error", "param": None, "code": CANARY}}

    async def script(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.event(chat_chunk("one "))
        await exchange.sleep(0.2)
        await exchange.event(error)
        await exchange.chunk(b"")

    up.on(CHAT_PATH, script)
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["message"].endswith("lost ***")
    assert gate.metric("lockgate_secrets_redacted_total") >= 1

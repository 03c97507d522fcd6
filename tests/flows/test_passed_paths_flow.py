"""Passed paths over HTTP: bytes, headers, keys, limits, usage, log, metrics and the ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gateway.passthrough.headers import OVERRIDES
from gateway.passthrough.run import MAX_TOTAL_S, Passthrough
from tests.faults.upstream_server import Exchange, FaultUpstream, Script
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

FIRST, SECOND = "lg-first-0123456789abcdef", "lg-second-0123456789abcdef"
PATHS = """
  "/v1/files/*": up
  "/v1/images/*": up
  "/v1/batches": { provider: up, methods: [GET, POST] }
  "/v1/audio/*": { provider: up, max_body: 1KiB }
  "/vendor/x/*": { provider: other, path: "/queue/*" }
"""


def serving(up: FaultUpstream, rest: str = "", provider: str = "") -> AbstractAsyncContextManager[Live]:
    """Serve a configuration with passed paths."""
    return live(
        f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", {provider} }}
  other: {{ type: azure, base_url: "{up.origin}", api_key: "${{UP_KEY}}" }}
models: {{ m: up/mock }}
passthrough:{PATHS}
{rest}""",
        environ={"UP_KEY": CREDENTIAL},
    )


def keys(first: str, second: str = "") -> str:
    """Return a `keys` section with two keys and their settings."""
    return f"keys:\n  first: {{ hash: '{digest(FIRST)}', {first} }}\n  second: {{ hash: '{digest(SECOND)}', {second} }}\n"


def answering(body: Any, *headers: str, status: str = "200 OK") -> Script:
    """Return a script that answers with a body, as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = [] if isinstance(body, bytes) else ["content-type: application/json"]
    lines = [f"HTTP/1.1 {status}", *kind, *headers, f"content-length: {len(content)}", "", ""]

    async def script(exchange: Exchange) -> None:
        await exchange.send("\r\n".join(lines).encode() + content)

    return script


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield parts of a chunked body."""
    for part in parts:
        yield part


async def test_any_method_and_body_arrive_as_they_were_sent(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering(b"\x00\xff" * 5, "content-type: audio/mpeg"))
    body = bytes(range(256)) * 1000
    async with serving(up) as gateway:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
            content = body if method in ("POST", "PUT", "PATCH") else b""
            answer = await client.request(method, gateway.url + "/v1/files/a%2Fb/content?x=%20&after=1", content=content)
            assert (answer.status_code, answer.content) == (200, b"" if method == "HEAD" else b"\x00\xff" * 5)
            assert (answer.headers["content-type"], answer.headers["content-length"]) == ("audio/mpeg", "10")
        chunked = await client.post(gateway.url + "/v1/files", content=pieces(b"a", body, b"z"))
        assert chunked.status_code == 200
        await gateway.records(8)
    *others, last = up.requests
    assert {request.path for request in others} == {"/v1/files/a%2Fb/content?x=%20&after=1"}
    assert [request.method for request in others] == ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
    assert [request.body == body for request in others] == [False, True, True, True, False, False, False]
    assert others[0].header("content-length") is None
    assert (last.body, last.header("transfer-encoding"), last.header("content-length")) == (b"a" + body + b"z", "chunked", None)


async def test_the_callers_key_is_replaced_and_never_reaches_the_provider(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering({}))
    async with serving(up, keys("", "")) as gateway:
        for path, name in (("/v1/files", "authorization"), ("/vendor/x/status", "api-key")):
            for headers in (bearer(FIRST), {"x-api-key": FIRST, "cookie": "session=1"}):
                answer = await client.get(gateway.url + path, params={"key": FIRST, "page": "2"}, headers=headers)
                assert answer.headers["x-gateway-adjusted"] == '"key";drop'
                request = up.requests[-1]
                assert request.header(name) == (f"Bearer {CREDENTIAL}" if name == "authorization" else CREDENTIAL)
                assert FIRST.encode() not in request.head
                assert request.header("cookie") is None
                assert request.path in ("/v1/files?page=2", "/queue/status?page=2")
        unknown = await client.get(gateway.url + "/v1/files", headers=bearer("lg-unknown"))
        missing = await client.get(gateway.url + "/v1/files")
    assert (unknown.status_code, missing.status_code, len(up.requests)) == (401, 401, 4)


async def test_the_vendors_answer_is_untouched(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    for status in ("206 Partial Content", "304 Not Modified", "404 Not Found", "429 Too Many Requests", "500 Internal Server Error"):
        body = b"" if status[:3] == "304" else b'{"error":{"message":"theirs"}}'
        headers = ("etag: \"e\"", "content-disposition: attachment; filename=x", "content-range: bytes 0-1/9", "x-request-id: theirs")
        up.once(answering(body, "content-type: application/json", *headers, status=status))
    moved = (f"location: {up.origin}/v1/files/2?a=1", "set-cookie: a=b")
    up.once(answering(b"", *moved, status="302 Found"))
    async with serving(up) as gateway:
        for status in (206, 304, 404, 429, 500):
            answer = await client.get(gateway.url + "/v1/files/1", headers={"range": "bytes=0-1", "if-none-match": '"e"'})
            assert (answer.status_code, answer.content) == (status, b"" if status == 304 else b'{"error":{"message":"theirs"}}')
            assert answer.headers["etag"] == '"e"'
            assert answer.headers["content-range"] == "bytes 0-1/9"
            assert answer.headers["content-disposition"] == "attachment; filename=x"
            assert answer.headers["x-upstream-request-id"] == "theirs"
            assert answer.headers["x-request-id"].startswith("req_")
            assert (up.requests[-1].header("range"), up.requests[-1].header("if-none-match")) == ("bytes=0-1", '"e"')
        redirect = await client.get(gateway.url + "/v1/files/1")
        assert (redirect.status_code, redirect.headers["location"]) == (302, "/v1/files/2?a=1")
        assert "set-cookie" not in redirect.headers
        records = await gateway.records(6)
    assert [record["status"] for record in records] == [206, 304, 404, 429, 500, 302]
    assert [record["attempts"][0]["outcome"] for record in records] == ["ok", "ok", "404", "429", "500", "ok"]


async def test_credential_in_an_error_is_masked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    words = json.dumps({"error": {"message": f"Incorrect API key provided: {CREDENTIAL}.", "rest": "x" * 70_000 + CREDENTIAL}})
    up.on(lambda request: True, answering(words.encode(), status="401 Unauthorized"))
    async with serving(up) as gateway:
        answer = await client.get(gateway.url + "/v1/files")
    assert (answer.status_code, answer.text) == (401, words.replace(CREDENTIAL, "*" * len(CREDENTIAL)))


@pytest.mark.parametrize("header", sorted(OVERRIDES))
async def test_method_and_path_cannot_be_overridden(up: FaultUpstream, client: httpx.AsyncClient, header: str) -> None:
    up.on(lambda request: True, answering({}))
    async with serving(up) as gateway:
        await client.post(gateway.url + "/v1/batches?$httpMethod=DELETE&a=1", headers={header: "DELETE"}, json={})
    assert header not in dict(up.requests[0].headers)
    assert up.requests[0].path == "/v1/batches?a=1"


async def test_a_compressed_answer_and_server_sent_events_pass_as_they_are(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    release = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        await exchange.start_stream()
        await release.wait()
        await exchange.event(b"1")
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    up.once(answering(b"not really gzip", "content-encoding: gzip"))
    up.once(stream)
    async with serving(up) as gateway:
        async with client.stream("GET", gateway.url + "/v1/files/1") as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert b"".join([piece async for piece in answer.aiter_raw()]) == b"not really gzip"
        async with client.stream("POST", gateway.url + "/v1/images/generations", json={"stream": True}) as answer:
            assert answer.headers["content-type"] == "text/event-stream"  # the head arrives before the first event
            release.set()
            assert await answer.aread() == b"data: 1\n\ndata: [DONE]\n\n"


async def test_reported_usage_is_billed_logged_counted_and_booked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    answer = {"model": "mock", "data": [], "usage": {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}}
    up.on(lambda request: True, answering(answer))
    prices = "prices: { mock: { prompt: 10, output: 100 } }"
    async with serving(up, keys("limits: { spend: 1 USD/day, tokens: 100k/h, requests: 100/h }"), prices) as gateway:
        url = gateway.url + "/v1/images/generations"
        first = await client.post(url, json={"prompt": "x"}, headers=bearer(FIRST))
        assert first.json() == answer
        (record,) = await gateway.records(1)
        second = await client.post(url, json={"prompt": "x"}, headers=bearer(FIRST))
        assert int(second.headers["x-ratelimit-remaining-requests"]) == 98
        assert 98_000 <= int(second.headers["x-ratelimit-remaining-tokens"]) <= 98_500
        await client.get(gateway.url + "/v1/files/1", headers=bearer(FIRST))  # usage in the answer to a GET is not that of this call
        await gateway.records(3)
        rows = {row[1:5]: counts for _, row, counts in gateway.gateway.ledger.counters.all_copies()}
        assert gateway.count("lockgate_requests", "/v1/images/*", "up/v1/images/*", "passthrough", "2xx") == 2
        assert gateway.count("lockgate_tokens", "/v1/images/*", "prompt", "reported") == 2000
        assert gateway.count("lockgate_tokens", "/v1/files/*") == 0
        assert gateway.count("lockgate_key_requests", "first", "none", "2xx") == 3
        await gateway.gateway.refresh_budgets()
        shown = gateway.gateway.metrics.expose().decode()
        assert 'lockgate_budget_used_ratio{name="first",owner="key"} 0.12' in shown
        assert 'lockgate_budget_reserved_ratio{name="first",owner="key"} 0' in shown
    expected = {"model": "/v1/images/*", "target": "up/v1/images/*", "operation": "passthrough", "method": "POST", "key": "first"}
    expected |= {"path": "/v1/images/generations", "prompt_tokens": 1000, "output_tokens": 500, "cost_usd": 0.06, "request_bytes": 14}
    assert {name: record[name] for name in expected} == expected
    assert record["response_bytes"] == len(json.dumps(answer))
    booked = rows["first", "", "/v1/images/*", "up/v1/images/*"]
    assert (booked.requests, booked.prompt, booked.output, booked.cost, booked.estimated) == (2, 2000, 1000, 120_000_000, 0)
    assert rows["first", "", "/v1/files/*", "up/v1/files/*"][:4] == (1, 0, 0, 0)


async def test_an_answer_without_a_model_has_the_price_of_its_pattern(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering({"usage": {"input_tokens": 1000, "output_tokens": 500}}))
    async with serving(up, provider='prices: { "v1/images/*": { prompt: 1, output: 2 } }') as gateway:
        await client.post(gateway.url + "/v1/images/edits", content=b"x")
        await client.post(gateway.url + "/v1/files", content=b"x")
        first, second = await gateway.records(2)
    assert (first["cost_usd"], second.get("cost_usd")) == (0.002, None)


async def test_limits_of_a_key_refuse_passed_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering({"usage": {"prompt_tokens": 90, "completion_tokens": 20}}))
    async with serving(up, keys("limits: { tokens: 100/h }", "limits: { requests: 1/h }")) as gateway:
        for token, kind in ((FIRST, "tokens"), (SECOND, "requests")):
            first, second = [await client.post(gateway.url + "/v1/files", json={}, headers=bearer(token)) for _ in range(2)]
            assert (first.status_code, second.status_code) == (200, 429)
            assert kind.removesuffix("s") in second.json()["error"]["message"]
    assert len(up.requests) == 2


async def test_a_strict_limit_refuses_what_it_cannot_bound(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys("limits: { tokens: 100/h, strict: true }")) as gateway:
        answer = await client.post(gateway.url + "/v1/files", json={}, headers=bearer(FIRST))
    assert (answer.status_code, answer.json()["error"]["code"], up.requests) == (403, "path_not_allowed", [])


async def test_the_limits_of_the_provider_apply(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    release = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await release.wait()
        await answering({})(exchange)

    up.on(lambda request: True, wait)
    async with serving(up, provider="max_concurrent: 1, max_queue: 0, limits: { requests: 2/h }") as gateway:
        waiting = asyncio.create_task(client.get(gateway.url + "/v1/files/1"))
        await up.wait_for(lambda server: len(server.requests) == 1)
        shed = await client.get(gateway.url + "/v1/files/2")
        release.set()
        assert (await waiting).status_code == 200
        assert (await client.get(gateway.url + "/v1/files/3")).status_code == 200
        limited = await client.get(gateway.url + "/v1/files/4")
        await gateway.records(4)
    assert (shed.status_code, shed.json()["error"]["code"]) == (503, "overloaded")
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("first", "statuses"),
    [
        ("", (200, 200, 200)),
        ("models: [m]", (403, 403, 200)),
        ("models: [m], passthrough: ['*']", (200, 200, 200)),
        ("passthrough: ['/v1/files/*']", (200, 403, 200)),
        ("passthrough: ['/v1/f*', '/v1/batches']", (200, 200, 200)),
        ("passthrough: []", (403, 403, 200)),
        ("team: t", (200, 403, 200)),
        ("team: t, passthrough: ['/v1/batches']", (403, 403, 200)),
    ],
)
async def test_a_key_uses_only_the_patterns_that_it_allows(
    up: FaultUpstream, client: httpx.AsyncClient, first: str, statuses: tuple[int, ...]
) -> None:
    up.on(lambda request: request.method == "GET", answering({}))
    async with serving(up, "teams: { t: { passthrough: ['/v1/files/*'] } }\n" + keys(first)) as gateway:
        answers = [await client.get(gateway.url + path, headers=bearer(FIRST)) for path in ("/v1/files/1", "/v1/batches", "/v1/models")]
    assert tuple(answer.status_code for answer in answers) == statuses
    for answer in answers:
        if answer.status_code == 403:
            assert answer.json()["error"]["code"] == "path_not_allowed"
            assert "passthrough" in answer.json()["error"]["message"]


async def test_refusals_of_the_gateway_have_openais_form(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        method = await client.delete(gateway.url + "/v1/batches")
        large = await client.post(gateway.url + "/v1/audio/speech", content=b"x" * 1025)
        unknown = await client.get(gateway.url + "/v1/fine_tuning/jobs")
        declared = await client.get(gateway.url + "/v1/batches/1")
        own = await client.post(gateway.url + "/v1/chat/completions", json={"model": "m", "messages": []})
        trace = await client.request("TRACE", gateway.url + "/v1/files")
    assert (method.status_code, method.json()["error"]["code"], method.headers["allow"]) == (405, "method_not_allowed", "GET, POST")
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    assert (trace.status_code, own.status_code) == (405, 400)
    assert unknown.status_code == 404
    assert 'passthrough: { "/v1/fine_tuning/*": PROVIDER }' in unknown.json()["error"]["message"]
    assert 'passthrough: { "/v1/batches/*": PROVIDER }' in declared.json()["error"]["message"]
    assert up.requests == []


async def test_an_unreachable_provider_is_an_error_of_the_gateway(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        await up.stop()
        answer = await client.post(gateway.url + "/v1/files", content=b"x")
        (record,) = await gateway.records(1)
        assert isinstance(gateway.gateway.generation.pipeline._passthrough, Passthrough)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_connect_error")
    assert (record["error"], record["attempts"][0]["outcome"]) == ("upstream_connect_error", "connect")
    assert MAX_TOTAL_S > 3600


async def test_browsers_may_use_every_method_of_a_passed_path(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering({}, "access-control-allow-origin: https://evil.test"))
    origin = {"origin": "https://app.test"}
    async with serving(up, "cors: ['https://app.test']") as gateway:
        asked = await client.options(gateway.url + "/v1/files/1", headers={**origin, "access-control-request-method": "DELETE"})
        answer = await client.delete(gateway.url + "/v1/files/1", headers=origin)
    assert (asked.status_code, "DELETE" in asked.headers["access-control-allow-methods"]) == (200, True)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.test")


async def test_a_call_without_a_free_connection_is_counted_as_shed(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    released = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
        await released.wait()
        await exchange.send(b"x")

    up.on(lambda request: True, slow)
    async with serving(up, provider="max_connections: 1, first_byte_timeout: 200ms") as gateway:
        async with client.stream("GET", gateway.url + "/v1/files/1") as first:
            refused = await client.get(gateway.url + "/v1/files/2")
            released.set()
            assert await first.aread() == b"x"
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_overloaded")
        assert gateway.count("lockgate_shed", "up/v1/files/*") == 1

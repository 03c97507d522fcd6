"""Each header of a response is documented for the operation and the status, and no other kind of response documents it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.openapi.document import document
from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

DOCUMENT = document("callers")
KEYS = ("lg-open-0123456789abcdef", "lg-limited-0123456789abcdef", "lg-small-0123456789abcdef")
OPEN, LIMITED, SMALL = KEYS
HELLO = [{"role": "user", "content": "Hello"}]
CALLS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": HELLO},
    "/completions": {"prompt": "Hello"},
    "/messages": {"messages": HELLO, "max_tokens": 9},
    "/responses": {"input": "Hello"},
    "/v2/chat": {"messages": HELLO},
    "/embeddings": {"input": "Hello"},
}
STREAMED = tuple(path for path in CALLS if path != "/embeddings")
FRAMING = frozenset({"content-type", "content-length", "date", "server", "connection", "transfer-encoding"})
RETRY = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})
LIMITS = "{ requests: 900/min, tokens: 900k/min }"


def config(up: FaultUpstream) -> str:
    """Return a configuration with a key without narrow limits, one for a single request, and one with few tokens."""
    open_, limited, small = map(digest, KEYS)
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: {{ targets: up/mock, attempts: 1 }}
keys:
  open: {{ hash: "{open_}", limits: {LIMITS} }}
  limited: {{ hash: "{limited}", limits: {{ requests: 1/h }} }}
  small: {{ hash: "{small}", limits: {{ tokens: 1/min }} }}
"""


def documented(path: str, method: str, code: int) -> set[str]:
    """Return the documented headers of a response."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    response = responses.get(str(code)) or responses["4XX"]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return set(response["headers"])


async def send(client: httpx.AsyncClient, gateway: Live, path: str, key: str, **more: Any) -> httpx.Response:
    """Make one call, and check that its headers are documented."""
    prefix = "" if path.startswith("/v2") else "/v1"
    headers = {**bearer(key), "x-request-id": "mine"}
    answer = await client.post(gateway.url + prefix + path, json={"model": "m", **CALLS[path], **more}, headers=headers)
    undocumented = set(answer.headers) - FRAMING - documented(path, "post", answer.status_code)
    assert undocumented == set(), (path, answer.status_code)
    return answer


@pytest.mark.parametrize("path", CALLS)
async def test_headers_of_calls_are_documented(up: FaultUpstream, client: httpx.AsyncClient, path: str) -> None:
    async with live(config(up)) as gateway:
        answered = [await send(client, gateway, path, OPEN), await send(client, gateway, path, LIMITED)]
        answered += [await send(client, gateway, path, OPEN, stream=True)] if path in STREAMED else []
        limited = [await send(client, gateway, path, LIMITED), await send(client, gateway, path, SMALL)]
        invalid = [await send(client, gateway, path, OPEN, model=1), await send(client, gateway, path, "lg-unknown-0123456789abcdef")]
        up.on(lambda request: True, status(409))
        refused = await send(client, gateway, path, OPEN)
        up.on(lambda request: True, canned(b"not json"))
        failed = await send(client, gateway, path, OPEN)
        up.on(lambda request: True, status(503, headers={"retry-after": "2"}))
        busy = await send(client, gateway, path, OPEN)
    assert {answer.status_code for answer in answered} == {200}
    assert {answer.status_code for answer in limited} == {429}
    assert [answer.status_code for answer in (*invalid, refused, failed, busy)] == [400, 401, 409, 502, 503]
    assert {"retry-after", "retry-after-ms"} <= set(limited[0].headers)
    assert "x-should-retry" in limited[1].headers
    assert "www-authenticate" in invalid[1].headers


@pytest.mark.parametrize("path", CALLS)
def test_answers_document_no_retry_and_errors_do(path: str) -> None:
    assert documented(path, "post", 200) & RETRY == set()
    for code in (429, 502, 503):
        assert documented(path, "post", code) >= RETRY
    assert "www-authenticate" in documented(path, "post", 401)
    assert "www-authenticate" not in documented(path, "post", 400)


def test_rate_limits_have_the_names_of_each_api() -> None:
    for path in CALLS:
        for code in (200, 429):
            names = documented(path, "post", code)
            assert ("anthropic-ratelimit-tokens-remaining" in names) is (path == "/messages")
            assert ("x-ratelimit-remaining-tokens" in names) is (path != "/messages")
            assert ("request-id" in names) is (path == "/messages")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/models", 200), ("GET", "/models/m", 200), ("GET", "/models/none", 404), ("POST", "/messages/count_tokens", 200),
     ("POST", "/messages/count_tokens", 400), ("PUT", "/models", 405)],
)  # fmt: skip
async def test_headers_of_other_answers_are_documented(
    up: FaultUpstream, client: httpx.AsyncClient, method: str, path: str, code: int
) -> None:
    body = {"model": "m", "messages": HELLO if code == 200 else 1} if method == "POST" else None
    async with live(config(up)) as gateway:
        headers = {**bearer(OPEN), "anthropic-version": "2023-06-01"}
        answer = await client.request(method, f"{gateway.url}/v1{path}", json=body, headers=headers)
    described = "/models/{name}" if path.startswith("/models/") else path
    known = documented(described, "get" if method == "PUT" else method, code)
    assert answer.status_code == code
    assert set(answer.headers) - FRAMING - known == set()
    assert known & {"x-gateway-target", "x-ratelimit-limit-tokens"} == set()

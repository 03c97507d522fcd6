"""The calls that enter the fast lane."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from gateway.fast.lane import MAX_BODY_BYTES
from gateway.http import request_start
from gateway.http.connection import CallerConnection
from gateway.http.request_start import MAX_AWAITED_BYTES
from tests.faults.client import CHAT_PATH, MESSAGES, FaultClient, chat, request_head
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually, live

pytestmark = pytest.mark.usefixtures("steps")

MODELS = """
  plain: up/mock
  hedged: { targets: [up/mock, vllm/mock], hedge: 1s }
  fitted: { targets: up/mock, context: { overflow: truncate } }
  mirrored: { targets: up/mock, mirror: { target: up/mock, share: 100% } }
  continued: { targets: vllm/mock, continue_on_cut: true }
"""
LONG = [{"role": "user", "content": "x" * MAX_BODY_BYTES}]


def configuration(up: FaultUpstream, top: str = "") -> str:
    """Return a configuration with these models."""
    providers = f'up: {{ type: openai-compatible, base_url: "{up.base_url}" }}\n  vllm: {{ type: vllm, base_url: "{up.base_url}" }}'
    return f"{top}\nproviders:\n  {providers}\nmodels:{MODELS}"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls wait an hour for their bodies."""
    monkeypatch.setattr(request_start, "MAX_WAIT_S", 3600.0)


async def enters(
    entered: list[FastCall], up: FaultUpstream, body: dict[str, Any], headers: Iterable[tuple[str, str]], top: str, path: str = CHAT_PATH
) -> bool:
    """Return whether a call entered the fast lane, and check that it was answered."""
    async with live(configuration(up, top)) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.post(body, headers, path)
        assert (await client.answer()).status == 200
    return bool(entered)


@pytest.mark.parametrize(
    "body",
    [{}, {"stream": True}, {"temperature": 0.5, "seed": 1, "user": "u"}, {"stop": "x"}, {"response_format": {"type": "json_object"}}],
)
@pytest.mark.parametrize("headers", [(), (("x-request-id", "mine"),)])
async def test_a_plain_call_enters(
    entered: list[FastCall], up: FaultUpstream, body: dict[str, Any], headers: tuple[tuple[str, str], ...]
) -> None:
    assert await enters(entered, up, chat("plain", **body), headers, "")


RESPONSE = {"model": "plain", "input": "Hello"}
MESSAGE = {"model": "plain", "messages": MESSAGES, "max_tokens": 9}
VERSIONS = (("anthropic-version", "2023-06-01"), ("anthropic-beta", "files-api-2025-04-14"))


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/responses", RESPONSE, ()),
        ("/v1/responses", {**RESPONSE, "store": False, "stream": True}, ()),
        ("/v1/messages", MESSAGE, VERSIONS),
        ("/anthropic/v1/messages", {**MESSAGE, "stream": True}, VERSIONS),
        ("/v1/messages", {**MESSAGE, "stop_sequences": ["x"]}, VERSIONS),
        ("/v2/chat", chat("plain"), ()),
        ("/v1/completions", {"model": "plain", "prompt": "Hello"}, ()),
        ("/v1/embeddings", {"model": "plain", "input": "Hello"}, ()),
        ("/v1/chat/completions", chat("plain"), (("openai-organization", "org"),)),
    ],
)
async def test_a_plain_call_of_another_api_enters(
    entered: list[FastCall], up: FaultUpstream, path: str, body: dict[str, Any], headers: tuple[tuple[str, str], ...]
) -> None:
    assert await enters(entered, up, body, headers, "", path)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/responses", {**RESPONSE, "store": True}, ()),
        ("/v1/responses", {**RESPONSE, "truncation": "auto"}, ()),
        ("/v1/completions", {"model": "plain", "prompt": "Hello", "stop": ["x"]}, ()),
        ("/v1/messages", MESSAGE, (("x-gateway-strict", "false"), ("x-gateway-receipt", "body"))),
        ("/v1/rerank", {"model": "plain", "query": "a", "documents": ["b"]}, ()),
    ],
)
async def test_a_call_of_another_api_with_anything_special_takes_the_pipeline(
    entered: list[FastCall], up: FaultUpstream, path: str, body: dict[str, Any], headers: tuple[tuple[str, str], ...]
) -> None:
    assert not await enters(entered, up, body, headers, "", path)


@pytest.mark.parametrize(
    ("body", "headers", "top"),
    [
        (chat("hedged"), (), ""),
        (chat("fitted"), (), ""),
        (chat("mirrored"), (), ""),
        (chat("continued"), (), ""),
        ({**chat("plain", stop="x"), "stream": True}, (), ""),
        ({**chat("plain", response_format={"type": "json_object"}), "stream": True}, (), ""),
        ({"model": "plain", "messages": LONG}, (), ""),
        (chat("plain"), (("x-gateway-strict", "true"),), ""),
        (chat("plain"), (("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"),), ""),
        (chat("plain"), (), "cors: ['https://app.example']"),
        (chat("plain"), (), "trusted_proxies: [127.0.0.1]"),
    ],
)
async def test_a_call_with_anything_special_takes_the_pipeline(
    entered: list[FastCall], up: FaultUpstream, body: dict[str, Any], headers: tuple[tuple[str, str], ...], top: str
) -> None:
    assert not await enters(entered, up, body, headers, top)


@pytest.mark.usefixtures("patient")
async def test_a_call_whose_body_arrives_after_its_head_enters(entered: list[FastCall], up: FaultUpstream) -> None:
    body = json.dumps(chat("plain")).encode()
    async with live(configuration(up)) as gateway, await FaultClient.connect(gateway.port) as client:
        connection = await _connection_after(client, request_head(len(body)))
        assert connection.ready is not None
        await client.send(body[:20])
        await client.send(body[20:])
        assert (await client.answer()).status == 200
    assert len(entered) == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("header", [("expect", "100-continue"), ("content-length", "")])
async def test_a_call_does_not_wait_for_a_long_body_or_one_that_must_be_requested(up: FaultUpstream, header: tuple[str, str]) -> None:
    head = request_head(None, [header]) if header[0] != "content-length" else request_head(MAX_AWAITED_BYTES + 1)
    async with live(configuration(up)) as gateway, await FaultClient.connect(gateway.port) as client:
        connection = await _connection_after(client, head)
        assert connection.ready is None
        assert connection._wait is None


async def test_a_call_starts_without_its_body_after_a_moment(entered: list[FastCall], up: FaultUpstream) -> None:
    keys = "keys:\n  k: { hash: 'sha256:a7b89a45e2d8bba2175e3cf7d20e67811ef365c7f918abcf24be2b488b816e74' }"
    async with live(configuration(up, keys)) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.send(request_head(1000))
        assert (await client.answer()).status == 401
    assert entered == []


async def _connection_after(client: FaultClient, head: bytes) -> CallerConnection:
    """Return the gateway's side of a connection after it has read a head."""
    await client.send(head)
    address = client.socket.getsockname()
    connections: list[CallerConnection] = []

    def is_read() -> bool:  # an earlier test may have used the same port
        found = [each for each in gc.get_objects() if isinstance(each, CallerConnection) and each.client == address]
        connections[:] = [connection for connection in found if connection._in_body]
        return bool(connections)

    await eventually(is_read)
    return connections[0]

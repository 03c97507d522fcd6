"""Tokens are counted by the provider if it has the caller's API."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.native.count import MAX_COUNT_BYTES
from tests.faults.behaviours import canned, play, status
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import FIN
from tests.native import anthropic_fake as fake
from tests.native.test_native_calls import SERVER_TOOL, VERSION, body, config, served

COUNT = "/v1/messages/count_tokens"


async def test_anthropic_itself_counts_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(COUNT, canned(b'{"input_tokens": 2095}'))
    asked = {"model": "m", "messages": body()["messages"], "tools": [SERVER_TOOL]}
    async with served(config(up)) as gateway:
        answer = await client.post(gateway.url + COUNT, json=asked, headers={**VERSION, "anthropic-beta": "b-1"})
    gateways = {"count": "exact", "tokenizer": "provider", "target": "ant/claude-opus-4-6"}
    assert answer.json() == {"input_tokens": 2095, "gateway": gateways}
    sent = up.requests[0]
    assert sent.json == {**asked, "model": "claude-opus-4-6"}
    assert (sent.header("anthropic-version"), sent.header("anthropic-beta"), sent.header("x-api-key")) == ("2023-06-01", "b-1", fake.KEY)


FAILURES = (status(529), play(FIN), canned(b'{"input_tokens": -1}'), canned(b"[]"), canned(b" " * (MAX_COUNT_BYTES + 1)))


@pytest.mark.parametrize("script", FAILURES)
async def test_a_count_that_fails_is_estimated(up: FaultUpstream, client: httpx.AsyncClient, script: Any) -> None:
    up.on(COUNT, script)
    async with served(config(up)) as gateway:
        answer = await client.post(gateway.url + COUNT, json={"model": "m", "messages": body()["messages"]}, headers=VERSION)
    assert answer.json()["gateway"]["count"] == "estimated"
    assert 0 < answer.json()["input_tokens"] < 20


async def test_a_count_of_content_of_anthropic_alone_needs_such_a_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with served(config(up, "up/mock")) as gateway:
        asked = {"model": "m", "messages": body()["messages"], "tools": [SERVER_TOOL]}
        answer = await client.post(gateway.url + COUNT, json=asked, headers=VERSION)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[0].type")
    assert not up.requests

"""Captured content through the whole gateway: only for keys that are configured for it, in every API, and shown only with a flag."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from gateway.commands.cli import run
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, post_chat
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest
from tests.support.pictures import image_part
from tests.support.redis import RedisServer

OPEN, PRIVATE = "lg-open-0123456789abcdef", "lg-private-0123456789abcdef"


def configuration(up: FaultUpstream, top: str = "") -> str:
    """Return a configuration with a key that captures content and one that does not."""
    return f"""
{top}
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: up/mock }}
keys:
  open: {{ hash: '{digest(OPEN)}', capture: content }}
  private: {{ hash: '{digest(PRIVATE)}' }}
"""


async def content(client: httpx.AsyncClient, gateway: Live, answer: httpx.Response) -> dict[str, str] | None:
    """Return the captured content of a call."""
    shown = await client.get(f"{gateway.admin_url}/admin/calls/{answer.headers['x-request-id']}?content=true")
    assert shown.status_code == 200, shown.text
    found: dict[str, str] | None = shown.json()["data"][0]["content"]
    return found


async def test_content_is_kept_only_for_keys_that_capture_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(configuration(up), environ={"UP_KEY": CREDENTIAL}) as gateway:
        picture = image_part(100, 100, 5_000)
        parts = [{"type": "text", "text": f"a secret plan with {CREDENTIAL}"}, picture]
        body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
        answer = await client.post(gateway.base_url + "/chat/completions", json=body, headers=bearer(OPEN))
        stream = await post_chat(client, gateway, text="tell me", headers=bearer(OPEN), stream=True)
        refused = await post_chat(client, gateway, "unknown", headers=bearer(OPEN))
        private = await post_chat(client, gateway, text="private words", headers=bearer(PRIVATE))
        found = await content(client, gateway, answer)
        assert found is not None
        kept = json.loads(found["request"])["messages"][0]["content"]
        assert kept[0]["text"] == "a secret plan with ***"
        assert kept[1]["image_url"]["url"].endswith("characters of data>")
        assert json.loads(found["response"])["choices"] == answer.json()["choices"]
        assert await content(client, gateway, stream) == {
            "request": stream.request.content.decode(), "response": stream.text,
        }  # fmt: skip
        error = await content(client, gateway, refused)
        assert error is not None
        assert json.loads(error["response"]) == refused.json()
        assert await content(client, gateway, private) is None
        plain = await client.get(f"{gateway.admin_url}/admin/calls/{answer.headers['x-request-id']}")
        assert "content" not in plain.json()["data"][0]
        assert "secret plan" not in (await client.get(f"{gateway.admin_url}/admin/calls")).text
        assert (await client.get(f"{gateway.admin_url}/admin/calls?content=true")).status_code == 400
        assert "secret plan" not in json.dumps(gateway.lines())


async def test_content_is_that_of_the_callers_own_api(
    up: FaultUpstream, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with live(configuration(up), environ={"UP_KEY": CREDENTIAL}) as gateway:
        body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hello there"}], "stream": True}
        answer = await client.post(gateway.base_url + "/messages", json=body, headers=bearer(OPEN))
        found = await content(client, gateway, answer)
        assert found == {"request": answer.request.content.decode(), "response": answer.text}
        id = answer.headers["x-request-id"]
        code = await asyncio.to_thread(run, ["calls", id, "--content", "--admin", gateway.admin_url])
        shown = capsys.readouterr().out
        assert code == 0
        assert f"request\n{found['request']}" in shown
        assert "event: message_stop" in shown
        private = await post_chat(client, gateway, headers=bearer(PRIVATE))
        await asyncio.to_thread(run, ["calls", private.headers["x-request-id"], "--content", "--admin", gateway.admin_url])
        assert "The content of this call is not kept" in capsys.readouterr().out


async def test_content_is_shared_through_redis(up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer) -> None:
    top = f"store: {own_redis.url}\nstore_deadline: 10s\njournal: off\ncalls: {{ store: redis }}"
    environ = {"UP_KEY": CREDENTIAL}
    async with live(configuration(up, top), environ=environ) as one, live(configuration(up, top), environ=environ) as other:
        answer = await post_chat(client, one, text="words", headers=bearer(OPEN))
        assert await content(client, one, answer) == await content(client, other, answer)
        found = await content(client, other, answer)
        assert found is not None
        assert json.loads(found["request"])["messages"][0]["content"] == "words"
        private = await post_chat(client, one, headers=bearer(PRIVATE))
        assert await content(client, one, private) is None

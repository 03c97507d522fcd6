"""Configurations, request bodies, upstream scripts and fixtures that several flow tests use."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import Exchange, FaultUpstream, Script
from tests.flows.live import Live, live
from tests.running import RunningGateway
from tests.support.apis import Api
from tests.support.redis_fixtures import own_redis

__all__ = ["own_redis"]

ROOT = Path(__file__).parents[2]
CREDENTIAL = "sk-upstream-credential"
RECEIPT = {"x-gateway-receipt": "body"}


def chat(model: str = "m", text: str = "hello", **more: Any) -> dict[str, Any]:
    """Return a chat body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def post_chat(
    client: httpx.AsyncClient,
    gateway: Live | RunningGateway,
    model: str = "m",
    text: str = "hello",
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    """Send one chat call and read its whole response."""
    return await client.post(gateway.base_url + "/chat/completions", json=chat(model, text, **more), headers=headers)


async def post_as(
    api: Api,
    client: httpx.AsyncClient,
    gateway: Live,
    model: str = "m",
    text: str = "hello",
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    """Send one call, stated as a chat completion, in an API."""
    return await client.post(gateway.url + api.path, json=api.body(chat(model, text, **more)), headers=headers)


def one_model(up: FaultUpstream, rest: str = "", kind: str = "openai-compatible") -> str:
    """Return a configuration with the model `m`, which is `mock` at the upstream."""
    return f"""
providers:
  up: {{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: up/mock
{rest}"""


def serving(up: FaultUpstream, rest: str = "", kind: str = "openai-compatible", **more: Any) -> AbstractAsyncContextManager[Live]:
    """Serve the configuration with one model."""
    return live(one_model(up, rest, kind), environ={"UP_KEY": CREDENTIAL}, **more)


def events(text: str) -> list[str]:
    """Return the data of each event of a stream."""
    return [part.removeprefix("data: ") for part in text.split("\n\n") if part]


def receipt_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the receipt in a JSON response or in the last event before [DONE]."""
    text = answer.text if answer.text.startswith("{") else events(answer.text)[-2]
    receipt: dict[str, Any] = json.loads(text)["gateway"]
    return receipt


def delayed(seconds: float) -> Script:
    """Return a script that waits, then answers like OpenAI."""

    async def script(exchange: Exchange) -> None:
        await exchange.sleep(seconds)
        await answer_as_openai(exchange)

    return script


def held(release: asyncio.Event) -> Script:
    """Return a script that waits for `release`, then answers like OpenAI."""

    async def script(exchange: Exchange) -> None:
        await release.wait()
        await answer_as_openai(exchange)

    return script


def issue_certificate(authority: trustme.CA, folder: Path) -> str:
    """Write a new cert.pem and key.pem for 127.0.0.1. Return the `tls` section that uses them."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o600)
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return f'tls: {{ cert: "{folder / "cert.pem"}", key: "{folder / "key.pem"}" }}\n'


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """Start a scripted upstream in its own process and return its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.upstream_server", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()

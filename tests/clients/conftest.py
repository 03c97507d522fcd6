"""Fixtures for real clients: one gateway in front of a scripted upstream for the whole run, and clients pointed at it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.running import RunningGateway

KEY = "sk-lockgate-clients-5f0c1d"
CREDENTIAL = "upstream-credential-c4a1"
LIMITED_KEY = "sk-lockgate-limited-77aa02"

CONFIG = """\
max_body: 1MiB
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models:
  chat: up/mock
  other: up/mock-2
  ends-early: up/fin-mid-stream
  limited-for-seconds: up/mock-3
  limited-for-an-hour: up/mock-4
keys:
  clients: {{ hash: "sha256:{key}" }}
  limited: {{ hash: "sha256:{limited}", models: [other] }}
"""


@dataclass
class Front:
    """A gateway in front of a scripted upstream."""

    upstream: FaultUpstream
    gateway: RunningGateway
    key: str = KEY

    def headers(self, **more: str) -> dict[str, str]:
        """What a caller with a key sends."""
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json", **more}

    def post(self, body: dict[str, Any], **more: str) -> httpx.Response:
        """One chat call as bytes on the wire."""
        return httpx.post(self.gateway.base_url + "/chat/completions", json=body, headers=self.headers(**more), timeout=30, trust_env=False)


class _UpstreamThread:
    """The scripted upstream on a loop of its own, so that it lives as long as the gateway in front of it."""

    def __init__(self) -> None:
        self.server = FaultUpstream()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(10)

    def stop(self) -> None:
        """Drop every connection and end the loop."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="session")
def _front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    thread = _UpstreamThread()
    folder = tmp_path_factory.mktemp("front")
    config = folder / "gateway.yaml"
    hashes = {"key": hashlib.sha256(KEY.encode()).hexdigest(), "limited": hashlib.sha256(LIMITED_KEY.encode()).hexdigest()}
    config.write_text(CONFIG.format(base_url=thread.server.base_url, **hashes))
    try:
        gateway = RunningGateway(config, folder, {"UPSTREAM_KEY": CREDENTIAL})
        try:
            yield Front(thread.server, gateway)
        finally:
            gateway.stop()
    finally:
        thread.stop()


@pytest.fixture
def front(_front: Front) -> Iterator[Front]:
    """The shared gateway with the upstream's scripts and books forgotten."""
    _front.upstream.reset()
    yield _front
    assert _front.upstream.failures == []


@pytest.fixture
def client(front: Front) -> Iterator[openai.OpenAI]:
    """The openai package, pointed at the gateway; it does not retry, so that each test sees one call."""
    with openai.OpenAI(base_url=front.gateway.base_url, api_key=KEY, max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture
def async_client(front: Front) -> openai.AsyncOpenAI:
    """The same for many calls at once; used as `async with async_client:`."""
    return openai.AsyncOpenAI(base_url=front.gateway.base_url, api_key=KEY, max_retries=0, timeout=30)

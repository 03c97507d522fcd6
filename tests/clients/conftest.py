"""Fixtures for real clients: a gateway in front of a scripted upstream for the whole test run, and clients of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.upstream_thread import UpstreamThread

KEY = "sk-lockgate-clients-5f0c1d"
CREDENTIAL = "upstream-credential-c4a1"
LIMITED_KEY = "sk-lockgate-limited-77aa02"

HELLO: Any = [{"role": "user", "content": "hello"}]

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
        """Return the headers of a caller with a key."""
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json", **more}

    def post(self, body: dict[str, Any], **more: str) -> httpx.Response:
        """Make one chat call without a client package."""
        url, headers = self.gateway.base_url + "/chat/completions", self.headers(**more)
        return httpx.post(url, json=body, headers=headers, timeout=30, verify=WITHOUT_AUTHORITIES, trust_env=False)


@contextmanager
def fronted(text: str, folder: Path, credential: str = CREDENTIAL) -> Iterator[Front]:
    """Yield a gateway process and its scripted upstream. `text` is its configuration, with `base_url`, `key` and `limited` as fields."""
    thread = UpstreamThread(FaultUpstream())
    config = folder / "gateway.yaml"
    hashes = {"key": hashlib.sha256(KEY.encode()).hexdigest(), "limited": hashlib.sha256(LIMITED_KEY.encode()).hexdigest()}
    config.write_text(text.format(base_url=thread.server.base_url, **hashes))
    try:
        gateway = RunningGateway(config, folder, {"UPSTREAM_KEY": credential})
        try:
            yield Front(thread.server, gateway)
        finally:
            gateway.stop()
    finally:
        thread.stop()


@pytest.fixture(scope="session")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Return one gateway and its upstream for the whole test run."""
    with fronted(CONFIG, tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Iterator[Front]:
    """Return the shared gateway and its upstream, whose scripts and recorded requests have been deleted."""
    shared_front.upstream.reset()
    yield shared_front
    assert shared_front.upstream.failures == []


@pytest.fixture
def client(front: Front) -> Iterator[openai.OpenAI]:
    """Return a client of the openai package. It does not retry, so that each call is one request."""
    http_client = openai.DefaultHttpxClient(verify=WITHOUT_AUTHORITIES)
    address = front.gateway.base_url
    with openai.OpenAI(base_url=address, api_key=KEY, max_retries=0, timeout=30, http_client=http_client) as openai_client:
        yield openai_client


@pytest.fixture
def async_client(front: Front) -> openai.AsyncOpenAI:
    """Return an async client for concurrent calls. Use it as `async with async_client:`."""
    http_client = openai.DefaultAsyncHttpxClient(verify=WITHOUT_AUTHORITIES)
    return openai.AsyncOpenAI(base_url=front.gateway.base_url, api_key=KEY, max_retries=0, timeout=30, http_client=http_client)

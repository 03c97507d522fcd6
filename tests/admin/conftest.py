"""An admin application over a real gateway, called in-process without a network."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

from gateway.admin.app import build_admin
from gateway.admin.health import Readiness
from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader
from gateway.telemetry.call_log import CallLog

YAML = """
providers:
  up: { type: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: "${UPSTREAM_KEY}", prices: { "*": { prompt: 1, output: 2 } } }
models:
  m: up/mock
keys:
  first: { hash: "sha256:5b1a3c1f1d6a7b2e9c0d4f8a6e3b5c7d9f1e2a4b6c8d0e1f2a3b4c5d6e7f8091" }
"""


class Admin:
    """The admin application, the gateway behind it, and a client of it."""

    def __init__(self, gateway: Gateway, readiness: Readiness, reloader: Reloader, client: httpx.AsyncClient, path: Path) -> None:
        self.gateway = gateway
        self.readiness = readiness
        self.reloader = reloader
        self.client = client
        self.path = path


def request_with(body: bytes = b"", query: str = "") -> Request:
    """Return a request with this body and query, for an endpoint that is called directly."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": query.encode()}, receive)


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    """An admin listener without an admin key."""
    path = tmp_path / "gateway.yaml"
    path.write_text(YAML)
    source = ConfigSource(str(path), Overrides(), {"UPSTREAM_KEY": "upstream-secret-0123456789"})
    loaded = source.read()
    descriptor = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    gateway = Gateway(loaded.config, CallLog(descriptor, human=False), lambda line: None)
    readiness, reloader = Readiness(), Reloader(gateway, source, loaded)
    app = build_admin(gateway, readiness, reloader)
    await gateway.start()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081") as client:
        yield Admin(gateway, readiness, reloader, client, path)
    await gateway.stop()
    os.close(descriptor)

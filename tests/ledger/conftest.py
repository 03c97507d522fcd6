"""Fixtures of the ledger tests: a configuration with prices, and calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live
from tests.support.redis import RedisServer

ENVIRON = {"UP_KEY": "sk-upstream-credential"}
TOKEN = "lg-ledger-0123456789abcdef"
PRICES = "{ mock: { prompt: 10, output: 100 } }"
"""USD per million tokens: 10,000 nano-dollars per prompt token, 100,000 per output token."""


def yaml(up: FaultUpstream, journal: Path | str = "off", rest: str = "") -> str:
    """Return a configuration with one priced model."""
    return f"""
journal: {journal}
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", prices: {PRICES} }}
models:
  m: up/mock
{rest}"""


async def call(client: httpx.AsyncClient, gateway: Live, text: str = "one two", **more: Any) -> httpx.Response:
    """Make one chat call."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return await client.post(gateway.base_url + "/chat/completions", json=body, headers={"authorization": f"Bearer {TOKEN}"})


async def usage(client: httpx.AsyncClient, gateway: Live, **params: str) -> dict[str, Any]:
    """Return the usage that the admin API reports, by default since yesterday, so that no test fails when a month begins."""
    params = {"from": str(datetime.now(UTC).date() - timedelta(days=1)), **params}
    answer = await client.get(gateway.admin_url + "/admin/usage", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a Redis server that the test may kill."""
    server = RedisServer(tmp_path_factory.mktemp("own"))
    yield server
    server.thaw()
    server.kill()

"""A real Prometheus with the shipped rules pages about a provider that was killed, at two calls a second."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.deploy.prometheus_server import PrometheusServer
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
CALL_INTERVAL_S = 0.5
MAX_SCRAPES = 12
"""Scrapes in a minute."""
GIVE_UP_S = 150.0
STATE = 'lockgate_target_state{target="dying/mock",state="live"}'
CONFIG = """
providers:
  dying: {{ type: openai-compatible, base_url: "{dying}" }}
  good: {{ type: openai-compatible, base_url: "{good}" }}
models:
  chat: [dying/mock, good/mock]
"""


async def _call_until(url: str, done: asyncio.Event) -> list[int]:
    """Send two calls a second, and return their statuses."""
    statuses: list[int] = []
    body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        while not done.is_set():
            statuses.append((await client.post(f"{url}/v1/chat/completions", json=body)).status_code)
            await asyncio.sleep(CALL_INTERVAL_S)
    return statuses


def firing(prometheus: PrometheusServer) -> set[str]:
    """Return the names of the firing alerts about the killed target or about all of them."""
    alerts = prometheus.get("alerts")["alerts"]
    return {
        alert["labels"]["alertname"]
        for alert in alerts
        if alert["state"] == "firing" and alert["labels"].get("target", "dying/mock") == "dying/mock"
    }


async def test_a_killed_provider_pages_within_the_scrapes_of_a_minute(tmp_path: Path, figure: Figure) -> None:
    dying, good = FaultUpstream(), FaultUpstream()
    await dying.__aenter__()
    done = asyncio.Event()
    async with good:
        config = tmp_path / "gateway.yaml"
        config.write_text(CONFIG.format(dying=dying.base_url, good=good.base_url))
        gateway = await asyncio.to_thread(RunningGateway, config, tmp_path)
        try:
            await asyncio.to_thread(gateway.wait_ready, 120)
            prometheus = await asyncio.to_thread(PrometheusServer, tmp_path, gateway.admin_url)
            try:
                calling = asyncio.create_task(_call_until(gateway.url, done))
                while not await asyncio.to_thread(prometheus.values, f"{STATE} == 1"):  # noqa: ASYNC110 - Prometheus tells no event
                    await asyncio.sleep(0.5)
                await dying.__aexit__(None, None, None)
                killed = time.monotonic()
                while "LockgateTargetDown" not in (fired := await asyncio.to_thread(firing, prometheus)):
                    assert time.monotonic() - killed < GIVE_UP_S, fired
                    await asyncio.sleep(0.5)
                figure("page about a killed provider", time.monotonic() - killed, "s")
                done.set()
                statuses = await calling
                samples = prometheus.get("query", query=f"{STATE}[5m]")["result"][0]["values"]
                assert "LockgateAllTargetsDown" not in fired, "the other target is live"
            finally:
                done.set()
                await asyncio.to_thread(prometheus.stop)
        finally:
            await asyncio.to_thread(gateway.stop)
    assert set(statuses) == {200}, "the other target answers"
    dead = [value for _, value in samples if value == "0"]
    figure("scrapes of the dead provider until the page", len(dead), "scrapes")
    assert 0 < len(dead) <= MAX_SCRAPES

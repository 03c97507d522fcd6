"""A real Prometheus and Alertmanager with the shipped files send pages about dead and hanging providers that get few calls."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.deploy.alertmanager import Alertmanager
from tests.deploy.prometheus_server import PrometheusServer
from tests.faults.behaviours import canned
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
CALL_INTERVAL_S = 0.5
MAX_SCRAPES = 12
"""Scrapes in a minute."""
GIVE_UP_S = 150.0
PATIENCE_S = {"killed": 30.0, "hanging": 3.0, "silent": 1.0}
"""Time after which the callers of a model disconnect."""
EXPECTED = {("LockgateTargetDown", "killed/mock"), ("LockgateTargetDown", "hanging/mock"), ("LockgateTargetSilent", "silent/mock")}
CONFIG = """
providers:
  killed: {{ type: openai-compatible, base_url: "{killed}" }}
  hanging: {{ type: openai-compatible, base_url: "{hanging}" }}
  silent: {{ type: openai-compatible, base_url: "{silent}" }}
  good: {{ type: openai-compatible, base_url: "{good}" }}
models:
  killed: [killed/mock, good/mock]
  hanging: [hanging/mock, good/mock]
  silent: [silent/mock, good/mock]
"""


class Callers:
    """Callers that send two calls a second to each model, and disconnect after a fixed time."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._client = httpx.AsyncClient(trust_env=False)
        self._calls: set[asyncio.Task[None]] = set()
        self.statuses: dict[str, list[int]] = {model: [] for model in PATIENCE_S}
        """Statuses of the answers. Calls whose caller disconnected have none."""
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while True:
            for model in PATIENCE_S:
                call = asyncio.create_task(self._call(model))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            await asyncio.sleep(CALL_INTERVAL_S)

    async def _call(self, model: str) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        try:
            response = await self._client.post(self._url, json=body, timeout=PATIENCE_S[model])
            self.statuses[model].append(response.status_code)
        except httpx.TimeoutException:
            pass

    async def stop(self) -> None:
        """End all calls."""
        for task in (self._sending, *self._calls):
            task.cancel()
        await asyncio.gather(self._sending, *self._calls, return_exceptions=True)
        await self._client.aclose()


def pages(hook: FaultUpstream) -> dict[tuple[str, str], float]:
    """Return the time at which the webhook received each page, by alert and target."""
    found: dict[tuple[str, str], float] = {}
    for request in hook.requests:
        for alert in json.loads(request.body)["alerts"]:
            if alert["status"] == "firing" and alert["labels"]["severity"] == "page":
                found.setdefault((alert["labels"]["alertname"], alert["labels"].get("target", "")), request.at)
    return found


async def test_killed_and_hanging_providers_page_within_the_scrapes_of_a_minute(tmp_path: Path, figure: Figure) -> None:
    killed = FaultUpstream()
    await killed.start()
    async with AsyncExitStack() as ending:
        hanging, silent, good, hook = [await ending.enter_async_context(FaultUpstream()) for _ in range(4)]
        hook.on(lambda request: True, canned(b"ok"))
        config = tmp_path / "gateway.yaml"
        config.write_text(CONFIG.format(killed=killed.base_url, hanging=hanging.base_url, silent=silent.base_url, good=good.base_url))
        gateway = await asyncio.to_thread(RunningGateway, config, tmp_path)
        ending.push_async_callback(asyncio.to_thread, gateway.stop)
        await asyncio.to_thread(gateway.wait_ready, 120)
        manager = await asyncio.to_thread(Alertmanager, tmp_path, f"{hook.origin}/alerts")
        ending.push_async_callback(asyncio.to_thread, manager.stop)
        prometheus = await asyncio.to_thread(PrometheusServer, tmp_path, gateway.admin_url, alertmanager=manager.address)
        ending.push_async_callback(asyncio.to_thread, prometheus.stop)
        callers = Callers(gateway.url)
        ending.push_async_callback(callers.stop)
        query, deadline = 'sum(lockgate_target_state{state="live"})', time.monotonic() + GIVE_UP_S
        while await asyncio.to_thread(prometheus.values, query) != [3.0]:
            assert time.monotonic() < deadline, gateway.output
            await asyncio.sleep(0.5)
        began = time.monotonic()
        await killed.stop()
        hanging.on(lambda request: True, play(HANG))
        silent.on(lambda request: True, play(HANG))
        while (sent := pages(hook)).keys() < EXPECTED:
            assert time.monotonic() - began < GIVE_UP_S, (sent, prometheus.get("alerts"))
            await asyncio.sleep(0.5)
        scrapes = {provider: await asyncio.to_thread(scrapes_until_firing, prometheus, provider) for provider in ("killed", "hanging")}
    others = sent.keys() - EXPECTED
    assert others <= {("LockgateTargetSilent", "hanging/mock")}, "the other target is live"
    for (name, target), at in sorted(sent.items()):
        figure(f"{name} for {target}", at - began, "s")
    for provider, count in scrapes.items():
        figure(f"scrapes of the {provider} provider until the alert fires", count, "scrapes")
        assert 0 < count < MAX_SCRAPES
    assert set(callers.statuses["killed"]) == {200}, "another target answers"
    assert callers.statuses["hanging"][-1] == 200, "another target answers once the hanging one is in cooldown"


def scrapes_until_firing(prometheus: PrometheusServer, provider: str) -> int:
    """Return the number of scrapes at which a target was down before its alert fired."""
    label = f'target="{provider}/mock"'
    alert = f'ALERTS{{alertname="LockgateTargetDown", alertstate="firing", {label}}}[5m]'
    fired = min(at for at, _ in prometheus.get("query", query=alert)["result"][0]["values"])
    states = prometheus.get("query", query=f"lockgate_target_down{{{label}}}[5m]")["result"][0]["values"]
    return sum(value == "1" for at, value in states if at <= fired)

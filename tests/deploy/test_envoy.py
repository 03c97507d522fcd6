"""deploy/envoy.yaml in the real Envoy, in front of three gateways: shutdown, reload and a killed gateway under load."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.ports import free_port
from tests.deploy import tools
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]
CALLERS = 12
GRACE_S = 4

Start = Callable[[list[RunningGateway]], int]


def endpoint(gateway: RunningGateway) -> dict[str, Any]:
    """Return a gateway as an endpoint of Envoy's cluster."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": gateway.port}}
    return {"endpoint": {"address": address, "health_check_config": {"port_value": int(gateway.admin_url.rpartition(":")[2])}}}


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts Envoy with the sample, in front of gateways, and returns its port."""
    running: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "envoy.log"

    def start(gateways: list[RunningGateway]) -> int:
        port, admin = free_port(), free_port()
        settings = yaml.safe_load((tools.DEPLOY / "envoy.yaml").read_text())
        settings["admin"]["address"]["socket_address"]["port_value"] = admin
        (listener,), (cluster,) = settings["static_resources"]["listeners"], settings["static_resources"]["clusters"]
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [endpoint(gateway) for gateway in gateways]
        cluster["health_checks"][0] |= {"interval": "0.5s", "no_traffic_interval": "0.5s"}
        path = tmp_path / "envoy.yaml"
        path.write_text(yaml.safe_dump(settings))
        command = [tools.engine("envoy"), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        with log.open("wb") as out:
            running.append(subprocess.Popen(command, stdout=out, stderr=out))
        deadline = time.monotonic() + 60
        while True:
            text = ""
            try:
                text = httpx.get(f"http://127.0.0.1:{admin}/clusters", timeout=2, trust_env=False).text
            except httpx.HTTPError:
                assert running[-1].poll() is None, log.read_text()
            if text.count("health_flags::healthy") == len(gateways):
                return port
            assert time.monotonic() < deadline, text or log.read_text()
            time.sleep(0.1)

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


class Load:
    """Callers that send calls with different texts through Envoy until they are stopped."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self.statuses = Counter[int]()
        self.sent = 0
        self.running = True

    async def run(self) -> None:
        """Send calls, a third of them as streams."""
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=CALLERS)) as client:
            await asyncio.gather(*(self._call(client, number) for number in range(CALLERS)))

    async def _call(self, client: httpx.AsyncClient, caller: int) -> None:
        number = 0
        while self.running:
            number += 1
            self.sent += 1
            body = {"model": "m", "stream": number % 3 == 0, "messages": [{"role": "user", "content": f"call {caller}-{number}"}]}
            try:
                answer = await client.post(self.url, json=body)
                ended = answer.status_code == 200 and (not body["stream"] or "[DONE]" in answer.text)
                self.statuses[answer.status_code if ended or answer.status_code != 200 else 0] += 1
            except httpx.HTTPError:
                self.statuses[0] += 1
            await asyncio.sleep(0.02)


async def test_shutdown_and_reload_lose_no_call_and_no_call_is_sent_twice(
    envoy: Start, gateway: Callable[..., RunningGateway], figure: Figure, tmp_path: Path
) -> None:
    async with FaultUpstream() as up:
        up.delay = 0.02
        text = f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels: {{ m: up/mock }}\n'
        gateways = [await asyncio.to_thread(gateway, f"{text}grace: {GRACE_S}s\n") for _ in range(2)]
        killed = RunningGateway(_written(tmp_path, text), tmp_path)
        gateways.append(killed)
        try:
            for one in gateways:
                await asyncio.to_thread(one.wait_ready)
            load = Load(await asyncio.to_thread(envoy, gateways))
            calls = asyncio.create_task(load.run())
            await asyncio.sleep(2)
            for _ in range(5):
                os.kill(gateways[1].pid, signal.SIGHUP)  # a reload
                await asyncio.sleep(0.3)
            os.kill(gateways[0].pid, signal.SIGTERM)
            await asyncio.to_thread(gateways[0].process.wait, 60)
            whole, before = load.sent, load.statuses.copy()
            in_flight = load.sent - load.statuses.total()
            killed.process.kill()
            await asyncio.sleep(4)
            load.running = False
            await calls
        finally:
            killed.process.kill()
            killed.process.wait()
        assert gateways[0].process.returncode == 0
        assert set(before) == {200}, before
        failed = sum(number for status, number in load.statuses.items() if status != 200)
        copies = Counter(request.body for request in up.requests)
    figure("calls through Envoy during a reload and a shutdown", whole, "of which 0 failed")
    figure("calls that failed with the killed gateway", failed, f"of {in_flight} in flight")
    assert load.statuses[200] > before[200]  # calls fail until Envoy has checked the killed gateway
    assert load.statuses[200] > sum(before.values()), "no call was answered after the kill"
    assert max(copies.values()) == 1, "a call was sent to the upstream twice"
    assert len(copies) >= load.statuses[200]


def _written(folder: Path, text: str) -> Path:
    path = folder / "killed.yaml"
    path.write_text(text)
    return path

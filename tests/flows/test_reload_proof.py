"""Long runs with real processes: a hundred reloads under load, and a rolling restart behind HAProxy."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from tests.flows.load import Load
from tests.flows.operator import bearer, digest
from tests.flows.processes import Start, is_answering, is_generation, port, start_ready, until
from tests.running import Figure, RunningGateway

TOKEN = "sk-the-callers-own-key-0123456789"
HEADERS = tuple(bearer(TOKEN).items())
RELOADS = 100
INSTANCES = 3


def varied(upstream: str, number: int) -> str:
    """Return a different configuration per number: weights, limits and sizes change; a provider, a model and a key are added or removed."""
    odd = number % 2
    other = f'  other: {{ hash: "{digest(f"another-key-{number}")}", models: [m] }}' if odd else ""
    provider = f'  extra: {{ type: openai-compatible, base_url: "{upstream}", max_connections: {100 + number} }}' if odd else ""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{upstream}", limits: {{ requests: {10**6 + number}/min }} }}
  too: {{ type: openai-compatible, base_url: "{upstream}", first_byte_timeout: {30 + odd}s }}
{provider}
models:
  m: {{ up/mock: {1 + number % 7}, too/mock: {1 + number % 3} }}
  {f"extra-{number}: extra/mock" if odd else "n: up/mock"}
keys:
  one: {{ hash: "{digest(TOKEN)}", limits: {{ requests: {10**6 + number}/min, tokens: {10**9 + number}/min, concurrent: 5000 }} }}
{other}
max_body: {8 + number % 5}MiB
"""


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_p7_a_hundred_reloads_a_minute_fail_no_call_and_cut_no_stream(
    gateway: Start, upstream: str, tmp_path: Path, figure: Figure
) -> None:
    running = await start_ready(gateway, varied(upstream, 0))
    path = tmp_path / "gateway-0" / "gateway.yaml"
    load = Load(port(running), rate=300, streams=200, chunks=60, pace="250ms", headers=HEADERS)
    async with load.running():
        await until(lambda: _all_open(load, 200), 60)
        start = time.monotonic()
        calls = load.calls
        for number in range(1, RELOADS + 1):
            new = path.with_suffix(".new")
            new.write_text(varied(upstream, number))
            new.rename(path)
            running.process.send_signal(signal.SIGHUP)
            await until(lambda number=number: is_generation(running, number + 1))  # type: ignore[misc]
            await asyncio.sleep(max(0.0, start + number * 60 / RELOADS - time.monotonic()))
        took = time.monotonic() - start
        rate = (load.calls - calls) / took
    figure(f"{RELOADS} reloads under load", took, "s")
    figure("calls meanwhile", rate, "1/s")
    figure("complete streams, 200 at a time", load.complete_streams, "")
    figure("failed calls and cut streams", load.faults.total(), "")
    assert load.faults == {}
    assert load.complete_streams >= 200
    await until(lambda: _recorded(running, load.calls + load.complete_streams))
    assert {record["status"] for record in running.records() if "status" in record} == {200}
    assert "not loaded" not in running.stderr


async def _recorded(running: RunningGateway, calls: int) -> bool:
    """Return whether there is exactly one record per call. Records are written with a delay."""
    return sum("status" in record for record in running.records()) == calls


async def _all_open(load: Load, streams: int) -> bool:
    return load.open_streams >= streams or bool(load.faults)


def haproxy(folder: Path, instances: list[RunningGateway]) -> tuple[subprocess.Popen[bytes], int]:
    """Start HAProxy in front of the gateways, as in deploy/, but with a faster check. Return its process and port."""
    front = free_port()
    servers = [
        f"server g{number} 127.0.0.1:{port(instance)} port {instance.admin_url.rsplit(':', 1)[1]}"
        for number, instance in enumerate(instances)
    ]
    text = f"""
global
    maxconn 4000
defaults
    mode http
    option redispatch
    retries 3
    retry-on conn-failure
    timeout connect 2s
    timeout client 75s
    timeout server 650s
    timeout http-request 10s
    timeout http-keep-alive 60s
frontend callers
    bind 127.0.0.1:{front}
    default_backend gateways
backend gateways
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1
    {chr(10).join("    " + server for server in servers).strip()}
"""
    (folder / "haproxy.cfg").write_text(text)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log, env={"PATH": path})
    return process, front


@pytest.mark.prove
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
async def test_rolling_restart_behind_haproxy_fails_no_call_and_cuts_no_stream(
    gateway: Start, upstream: str, tmp_path: Path, figure: Figure, workers: int
) -> None:
    yaml = f"""
store: redis://127.0.0.1:1/0
grace: 4s
drain: 30s
providers:
  up: {{ type: openai-compatible, base_url: "{upstream}" }}
models:
  m: up/mock
"""
    instances = [await start_ready(gateway, yaml, workers=workers) for _ in range(INSTANCES)]
    process, front = haproxy(tmp_path, instances)
    try:
        await until(lambda: is_answering(front))
        load = Load(front, rate=150, streams=60, chunks=40, pace="100ms")
        began = time.monotonic()
        async with load.running():
            await until(lambda: _all_open(load, 60), 60)
            for number, instance in enumerate(instances):
                instance.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(instance.process.wait, 60) == 0
                addresses = ("--port", str(port(instance)), "--admin-port", instance.admin_url.rsplit(":", 1)[1])
                instances[number] = await start_ready(gateway, yaml, *addresses, workers=workers)
                await asyncio.sleep(2)  # HAProxy needs a second to detect the instance
        took = time.monotonic() - began
    finally:
        process.terminate()
        process.wait()
        for instance in instances * 2:  # the second signal skips the drain
            if instance.process.poll() is None:
                instance.process.send_signal(signal.SIGTERM)
    figure(f"{INSTANCES} instances with {workers} workers restarted", took, "s")
    figure("calls meanwhile", load.calls / took, "1/s")
    figure("complete streams, 60 at a time", load.complete_streams, "")
    figure("failed calls and cut streams", load.faults.total(), "")
    assert load.faults == {}
    assert load.complete_streams >= 60

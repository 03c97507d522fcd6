"""Long runs on real processes: a hundred reloads under load, and instances that end one after the other behind HAProxy."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.client import ask
from tests.faults.upstream_server import closed_port
from tests.flows.conftest import chat
from tests.flows.load import Load
from tests.flows.test_process import upstream
from tests.flows.test_shutdown_flow import generation, port, until
from tests.running import Figure, RunningGateway

__all__ = ["upstream"]

Start = Callable[..., RunningGateway]
TOKEN = "sk-the-callers-own-key-0123456789"
HEADERS = (("authorization", f"Bearer {TOKEN}"),)
RELOADS = 100
INSTANCES = 3


def varied(upstream: str, number: int) -> str:
    """Another file for each number: weights, limits and ceilings change; a provider, a model and a key come and go."""
    odd = number % 2
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in (TOKEN, f"another-key-{number}")]
    other = f'  other: {{ hash: "sha256:{digests[1]}", models: [m] }}' if odd else ""
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
  one: {{ hash: "sha256:{digests[0]}", limits: {{ requests: {10**6 + number}/min, tokens: {10**9 + number}/min, concurrent: 5000 }} }}
{other}
max_body: {8 + number % 5}MiB
"""


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_p7_a_hundred_reloads_a_minute_under_load_fail_no_call_and_cut_no_stream(
    gateway: Start, upstream: str, tmp_path: Path, figure: Figure
) -> None:
    running = await asyncio.to_thread(gateway, varied(upstream, 0))
    await asyncio.to_thread(running.wait_ready)
    path = tmp_path / "gateway-0" / "gateway.yaml"
    load = Load(port(running), rate=300, streams=200, chunks=60, pace="250ms", headers=HEADERS)
    began = time.monotonic()
    async with load.running():
        await until(lambda: _all_open(load, 200), 60)
        start = time.monotonic()
        calls = load.calls
        for number in range(1, RELOADS + 1):
            new = path.with_suffix(".new")
            new.write_text(varied(upstream, number))
            new.rename(path)
            running.process.send_signal(signal.SIGHUP)
            await until(lambda number=number: generation(running, number + 1))  # type: ignore[misc]
            await asyncio.sleep(max(0.0, start + number * 60 / RELOADS - time.monotonic()))
        took = time.monotonic() - start
        rate = (load.calls - calls) / took
    figure(f"{RELOADS} reloads under load", took, "s")
    figure("calls meanwhile", rate, "1/s")
    figure("whole streams, 200 at a time", load.whole_streams, "")
    figure("failed calls and cut streams", load.faults.total(), "")
    assert load.faults == {}
    assert load.whole_streams >= 200
    await until(lambda: _recorded(running, load.calls + load.whole_streams))
    assert {record["status"] for record in running.records() if "status" in record} == {200}
    assert time.monotonic() - began < 280
    assert "not loaded" not in running.stderr


async def _recorded(running: RunningGateway, calls: int) -> bool:
    """Whether there is exactly one record for each; lines are written a moment later."""
    return sum("status" in record for record in running.records()) == calls


async def _all_open(load: Load, streams: int) -> bool:
    return load.open_streams >= streams or bool(load.faults)


def haproxy(folder: Path, instances: list[RunningGateway]) -> tuple[subprocess.Popen[bytes], int]:
    """HAProxy before the gateways, as deploy/ has it but for addresses and a faster check; and its port."""
    front = closed_port()
    servers = [
        f"server g{number} 127.0.0.1:{port(one)} port {one.admin_url.rsplit(':', 1)[1]}" for number, one in enumerate(instances)
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
    {chr(10).join("    " + one for one in servers).strip()}
"""
    (folder / "haproxy.cfg").write_text(text)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log, env={"PATH": path})
    return process, front


async def _answers(front: int) -> bool:
    try:
        return (await ask(front, chat(max_tokens=1))).status == 200
    except (OSError, AssertionError):
        return False


@pytest.mark.prove
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
async def test_instances_that_end_one_after_the_other_behind_haproxy_fail_no_call_and_cut_no_stream(
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
    args = ("--workers", str(workers))
    instances = [await asyncio.to_thread(gateway, yaml, None, args) for _ in range(INSTANCES)]
    for one in instances:
        await asyncio.to_thread(one.wait_ready)
    process, front = haproxy(tmp_path, instances)
    try:
        await until(lambda: _answers(front))
        load = Load(front, rate=150, streams=60, chunks=40, pace="100ms")
        began = time.monotonic()
        async with load.running():
            await until(lambda: _all_open(load, 60), 60)
            for number, one in enumerate(instances):
                one.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(one.process.wait, 60) == 0
                addresses = ("--port", str(port(one)), "--admin-port", one.admin_url.rsplit(":", 1)[1])
                instances[number] = await asyncio.to_thread(gateway, yaml, None, (*args, *addresses))
                await asyncio.to_thread(instances[number].wait_ready)
                await asyncio.sleep(2)  # until HAProxy sees it
        took = time.monotonic() - began
    finally:
        process.terminate()
        process.wait()
        for one in instances * 2:  # the second signal: at once
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGTERM)
    figure(f"{INSTANCES} instances of {workers} workers ended and started again", took, "s")
    figure("calls meanwhile", load.calls / took, "1/s")
    figure("whole streams, 60 at a time", load.whole_streams, "")
    figure("failed calls and cut streams", load.faults.total(), "")
    assert load.faults == {}
    assert load.whole_streams >= 60

"""Killed workers, a process that runs out of files, and a log pipe that is not read."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.client import Answer, FaultClient, ask
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import ROOT, chat
from tests.flows.operator import bearer, digest
from tests.flows.processes import (
    SHORT,
    Start,
    admin,
    children,
    config,
    is_answering,
    kill_workers,
    open_streams,
    port,
    start_ready,
    start_warm,
    until,
)
from tests.running import Figure, RunningGateway
from tests.support.redis import RedisServer

STREAMS = 24


async def test_p3_killed_worker_cuts_only_its_own_streams(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await start_warm(gateway, config(up.base_url), workers=2)
        tasks = [task for _ in range(STREAMS) for task in await open_streams(running, 1, 0)]  # both workers get some
        os.kill(children(running.pid)[0], signal.SIGKILL)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        answers = [result for result in results if isinstance(result, Answer)]
        complete = [answer for answer in answers if answer.complete and answer.events[-1] == b"[DONE]"]
        cut = [result for result in results if result not in complete]
        assert complete, "the streams of the other worker continue"
        assert cut, "the streams of the killed worker are cut"
        assert all(answer.text.count("w") == SHORT for answer in complete)
        assert not any(isinstance(result, Answer) and b"[DONE]" in result.body for result in cut)
        await until(lambda: _both_workers_serve(running))


KEY = "lk-the-only-key-there-is-0123456789"
HEADERS = tuple(bearer(KEY).items())


@pytest.mark.prove
@pytest.mark.timeout(150)
async def test_p3_leases_of_killed_workers_expire_and_their_usage_is_recorded(
    gateway: Start, own_redis: RedisServer, figure: Figure
) -> None:
    async with FaultUpstream() as up, AsyncExitStack() as stack:
        key = f'keys: {{ one: {{ hash: "{digest(KEY)}", limits: {{ concurrent: 4 }} }} }}\n'
        yaml = config(up.base_url, key).replace("redis://127.0.0.1:1/0", f"redis://127.0.0.1:{own_redis.port}/0")
        running = await start_ready(gateway, yaml, workers=2)
        await until(lambda: _call_gets(running, 200))
        clients = [await stack.enter_async_context(await _open_limited_stream(running)) for _ in range(4)]
        assert await _call_gets(running, 429)
        await asyncio.sleep(3)  # usage in flight is journaled every second
        sent = sum(request.tokens for request in up.requests)
        kill_workers(running)
        killed = time.monotonic()
        for client in clients:
            await client.until_closed()
        await until(lambda: _ready(running, 200))
        assert await _call_gets(running, 429), "the leases of the killed workers are still held"
        await until(lambda: _call_gets(running, 200), 60)
        figure("from SIGKILL of both workers to the first accepted call (promised: 30)", time.monotonic() - killed, "s")
        for _ in range(4):
            await stack.enter_async_context(await _open_limited_stream(running))
        assert await _call_gets(running, 429), "the limit applies as before"
        usage = (await admin(running, "/admin/usage?by=key")).json()
        figure("share of the sent tokens that is recorded", 100 * _output_tokens(usage) / sent, "%")
        assert 0.3 * sent < _output_tokens(usage) <= sum(request.tokens for request in up.requests)


def _output_tokens(usage: Any) -> int:
    return sum(int(row["output_tokens"]) for row in usage["rows"])


async def _open_limited_stream(running: RunningGateway) -> FaultClient:
    """Open a stream that lasts minutes, as soon as the concurrency limit allows it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        client = await FaultClient.connect(port(running))
        await client.post(chat(text="#chunks=3000##delay=100ms#", stream=True), HEADERS)
        await client.read_until(b"\r\n\r\n", 60)
        if b" 200 " in client.received[:20]:
            return client
        client.rst()
        await asyncio.sleep(0.3)
    raise AssertionError("no lease became free")


async def _call_gets(running: RunningGateway, status: int) -> bool:
    """Return whether one more call gets this status."""
    try:
        return (await ask(port(running), chat(max_tokens=1), HEADERS)).status == status
    except OSError:
        return False


async def test_gateway_is_not_ready_while_it_has_no_worker(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await start_warm(gateway, config(up.base_url), workers=2)
        assert (await admin(running, "/readyz")).status_code == 200
        await until(lambda: _not_ready_without_workers(running))
        assert (await admin(running, "/healthz")).status_code == 200
        await until(lambda: _ready(running, 200))
        await until(lambda: _both_workers_serve(running))


async def _not_ready_without_workers(running: RunningGateway) -> bool:
    """Kill all workers. Return whether /readyz then returns 503. New workers may be ready before it is read."""
    kill_workers(running)
    return await _ready(running, 503)


async def _ready(running: RunningGateway, status: int) -> bool:
    return (await admin(running, "/readyz")).status_code == status


async def _both_workers_serve(running: RunningGateway) -> bool:
    return len(children(running.pid)) == 2 and await is_answering(port(running))


@pytest.mark.prove
async def test_p9_running_out_of_files_keeps_streams_and_recovers(gateway: Start, figure: Figure) -> None:
    async with FaultUpstream() as up:
        running = await start_warm(gateway, config(up.base_url))
        tasks = await open_streams(running, STREAMS, 0)
        used = len(os.listdir(f"/proc/{running.pid}/fd"))
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (used + 30, 4096))
        connections = [await FaultClient.connect(port(running)) for _ in range(300)]
        before, began = cpu_seconds(running.pid), time.monotonic()
        await asyncio.sleep(2)
        share = (cpu_seconds(running.pid) - before) / (time.monotonic() - began)
        figure("CPU share while no file descriptor is free", 100 * share, "%")
        for client in connections:
            client.rst()
        answers = await asyncio.gather(*tasks)
        assert all(answer.events[-1] == b"[DONE]" and answer.text.count("w") == SHORT for answer in answers)
        await until(lambda: is_answering(port(running)))
        assert (await admin(running, "/readyz")).status_code == 200


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_with_unread_log(folder: Path, yaml: str) -> subprocess.Popen[bytes]:
    """Start a gateway whose standard output is a pipe that is not read."""
    (folder / "gateway.yaml").write_text(yaml)
    command = [sys.executable, "-m", "gateway", "--config", str(folder / "gateway.yaml"), "--port", "0", "--admin-port", "0"]
    inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LD_LIBRARY_PATH"}}
    with (folder / "stderr").open("wb") as errors:
        return subprocess.Popen([*command, "--log", "json"], stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=inherited)


@pytest.mark.prove
async def test_p12_blocked_log_pipe_delays_neither_calls_nor_shutdown(tmp_path: Path) -> None:
    async with FaultUpstream() as up:
        process = start_with_unread_log(tmp_path, config(up.base_url))
        try:
            await until(lambda: _is_listening(tmp_path))
            listening = _caller_port(tmp_path)
            statuses = {(await ask(listening, chat(max_tokens=1))).status for _ in range(600)}  # three times the capacity of the pipe
            assert statuses == {200}
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


async def _is_listening(folder: Path) -> bool:
    return _caller_port(folder) > 0


def _caller_port(folder: Path) -> int:
    """Return the port in the startup lines, or 0 until both listeners are listed."""
    lines = (folder / "stderr").read_text().splitlines()
    listening = [line for line in lines if line.startswith("listening on")]
    return int(listening[0].rpartition(":")[2]) if listening and any(line.startswith("admin on") for line in lines) else 0

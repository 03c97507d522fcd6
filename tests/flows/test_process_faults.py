"""P3, P9, P12: a worker that is killed, a process without free files, a log that nobody reads."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.client import Answer, FaultClient, ask
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat
from tests.flows.test_process import children
from tests.flows.test_shutdown_flow import SHORT, admin, config, open_streams, port, started, until
from tests.running import Figure, RunningGateway
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis

__all__ = ["own_redis"]

ROOT = Path(__file__).parents[2]
Start = Callable[..., RunningGateway]
STREAMS = 40


async def test_p3_callers_of_a_worker_that_was_killed_are_cut_and_others_notice_nothing(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await started(gateway, config(up), 2)
        tasks = [task for _ in range(STREAMS) for task in await open_streams(running, 1, 0)]  # one by one, so that both get some
        os.kill(children(running.pid)[0], signal.SIGKILL)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        answers = [one for one in found if isinstance(one, Answer)]
        whole = [one for one in answers if one.complete and one.events[-1] == b"[DONE]"]
        cut = [one for one in found if one not in whole]
        assert whole, "the other worker's streams go on"
        assert cut, "its own streams are cut"
        assert all(one.text.count("w") == SHORT for one in whole)
        assert not any(isinstance(one, Answer) and b"[DONE]" in one.body for one in cut)
        await until(lambda: _serves_again(running))


KEY = "lk-the-only-key-there-is-0123456789"
GOOD = (("authorization", f"Bearer {KEY}"),)


@pytest.mark.prove
@pytest.mark.timeout(150)
async def test_p3_what_killed_workers_held_is_free_after_a_leases_length_and_what_they_used_is_booked(
    gateway: Start, own_redis: RedisServer, figure: Figure
) -> None:
    async with FaultUpstream() as up, AsyncExitStack() as stack:
        key = f'keys: {{ one: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}", limits: {{ concurrent: 4 }} }} }}\n'
        yaml = config(up, key).replace("redis://127.0.0.1:1/0", f"redis://127.0.0.1:{own_redis.port}/0")
        running = await asyncio.to_thread(gateway, yaml, None, ("--workers", "2"))
        await asyncio.to_thread(running.wait_ready)
        await until(lambda: _taken(running, 200))
        clients = [await stack.enter_async_context(await _begun(running)) for _ in range(4)]
        assert await _taken(running, 429)
        await asyncio.sleep(3)  # what a call uses is written down once a second
        sent = sum(request.tokens for request in up.requests)
        for worker in children(running.pid):
            os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        for client in clients:
            await client.until_closed()
        await until(lambda: _ready(running, 200))
        assert await _taken(running, 429), "what they held is held for as long as a lease is"
        await until(lambda: _taken(running, 200), 60)
        figure("after SIGKILL of both workers, where 30 are promised, calls are taken again", time.monotonic() - killed, "s")
        for _ in range(4):
            await stack.enter_async_context(await _begun(running))
        assert await _taken(running, 429), "no more than the limit, then as before"
        booked = (await admin(running, "/admin/usage?by=key")).json()
        figure("of the tokens that had been sent by then, booked", 100 * _output(booked) / sent, "%")
        assert 0.3 * sent < _output(booked) <= sum(request.tokens for request in up.requests)


def _output(booked: Any) -> int:
    return sum(int(row["output_tokens"]) for row in booked["rows"])


async def _begun(running: RunningGateway) -> FaultClient:
    """A stream that goes on for minutes; begun as soon as a lease is free."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        client = await FaultClient.connect(port(running))
        await client.post(chat(text="#chunks=3000##delay=100ms#", stream=True), GOOD)
        await client.read_until(b"\r\n\r\n", 60)
        if b" 200 " in client.received[:20]:
            return client
        client.rst()
        await asyncio.sleep(0.3)
    raise AssertionError("no lease became free")


async def _taken(running: RunningGateway, status: int) -> bool:
    """Whether one more call gets this status."""
    try:
        return (await ask(port(running), chat(max_tokens=1), GOOD)).status == status
    except OSError:
        return False


async def test_a_gateway_without_a_worker_is_not_ready_until_one_serves_again(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await started(gateway, config(up), 2)
        assert (await admin(running, "/readyz")).status_code == 200
        for worker in children(running.pid):
            os.kill(worker, signal.SIGKILL)
        await until(lambda: _ready(running, 503))
        assert (await admin(running, "/healthz")).status_code == 200
        await until(lambda: _ready(running, 200))
        await until(lambda: _serves_again(running))


async def _ready(running: RunningGateway, status: int) -> bool:
    return (await admin(running, "/readyz")).status_code == status


async def _serves_again(running: RunningGateway) -> bool:
    return len(children(running.pid)) == 2 and (await ask(port(running), chat(max_tokens=1))).status == 200


@pytest.mark.prove
async def test_p9_without_free_files_streams_go_on_and_calls_are_taken_again_once_there_are(gateway: Start, figure: Figure) -> None:
    async with FaultUpstream() as up:
        running = await started(gateway, config(up), 1)
        tasks = await open_streams(running, STREAMS, 0)
        used = len(os.listdir(f"/proc/{running.pid}/fd"))
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (used + 30, 4096))
        crowd = [await FaultClient.connect(port(running)) for _ in range(300)]
        before, began = cpu_seconds(running.pid), time.monotonic()
        await asyncio.sleep(2)
        share = (cpu_seconds(running.pid) - before) / (time.monotonic() - began)
        figure("CPU while no file is free", 100 * share, "%")
        for client in crowd:
            client.rst()
        answers = await asyncio.gather(*tasks)
        assert all(answer.events[-1] == b"[DONE]" and answer.text.count("w") == SHORT for answer in answers)
        await until(lambda: _answers(running))
        assert (await admin(running, "/readyz")).status_code == 200


async def _answers(running: RunningGateway) -> bool:
    try:
        return (await ask(port(running), chat(max_tokens=1))).status == 200
    except (AssertionError, OSError):
        return False


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unread(folder: Path, yaml: str) -> subprocess.Popen[bytes]:
    """A gateway whose standard output is a pipe that nobody empties."""
    (folder / "gateway.yaml").write_text(yaml)
    command = [sys.executable, "-m", "gateway", "--config", str(folder / "gateway.yaml"), "--port", "0", "--admin-port", "0"]
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LD_LIBRARY_PATH"}}
    with (folder / "stderr").open("wb") as errors:
        return subprocess.Popen([*command, "--log", "json"], stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=kept)


@pytest.mark.prove
async def test_p12_a_log_that_nobody_reads_stops_no_call_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with FaultUpstream() as up:
        process = unread(tmp_path, config(up))
        try:
            await until(lambda: asyncio.to_thread(_port, tmp_path))
            address = _port(tmp_path)
            statuses = {(await ask(address, chat(max_tokens=1))).status for _ in range(600)}  # three times what the pipe holds
            assert statuses == {200}
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _port(folder: Path) -> int:
    """Where it listens; 0 as long as it does not say so."""
    lines = (folder / "stderr").read_text().splitlines()
    found = [line for line in lines if line.startswith("listening on")]
    return int(found[0].rpartition(":")[2]) if found and any(line.startswith("admin on") for line in lines) else 0

"""Helpers for gateways that run as processes: start them, kill workers, and wait for states that the admin listener reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.faults.client import Answer, FaultClient, ask
from tests.flows.conftest import chat
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES

Start = Callable[..., RunningGateway]
"""The fixture `gateway`, which starts a gateway from a configuration."""
UNUSED_STORE = "store: redis://127.0.0.1:1/0\n"
"""A store that allows several workers. Nothing listens at its address."""
SHORT = 18
"""Chunks of a stream that ends within the drain time, at ten a second."""


def config(base_url: str, rest: str = "") -> str:
    """Return a configuration with the model `m` that allows several workers."""
    return f"""
{UNUSED_STORE}
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}" }}
models:
  m: up/mock
{rest}"""


async def start_ready(gateway: Start, yaml: str, *args: str, workers: int = 1, env: Mapping[str, str] | None = None) -> RunningGateway:
    """Start a gateway and return it once /readyz returns 200."""
    running = await asyncio.to_thread(gateway, yaml, env, ("--workers", str(workers), *args))
    await asyncio.to_thread(running.wait_ready)
    return running


async def start_warm(gateway: Start, yaml: str, *args: str, workers: int = 1) -> RunningGateway:
    """Start a gateway and return it once it has answered several calls."""
    running = await start_ready(gateway, yaml, *args, workers=workers)
    for _ in range(4 * workers):  # the port is open before every worker listens
        assert (await ask(port(running), chat(max_tokens=1))).status == 200
    return running


def port(running: RunningGateway) -> int:
    """Return the port of the caller listener."""
    return int(running.url.rsplit(":", 1)[1])


async def admin(running: RunningGateway, path: str) -> httpx.Response:
    """Request one path of the admin listener."""
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=20) as client:
        return await client.get(running.admin_url + path)


async def is_generation(running: RunningGateway, number: int) -> bool:
    """Return whether /admin/config shows this generation and no reload error."""
    shown: dict[str, Any] = (await admin(running, "/admin/config")).json()
    return shown["generation"] == number and not shown["error"]


async def has_reload_error(running: RunningGateway) -> bool:
    """Return whether /admin/config shows that the last reload failed."""
    return bool((await admin(running, "/admin/config")).json()["error"])


async def is_answering(port: int) -> bool:
    """Return whether a call is answered with 200."""
    try:
        return (await ask(port, chat(max_tokens=1))).status == 200
    except (AssertionError, OSError):
        return False


async def until(condition: Callable[[], Awaitable[bool]], within: float = 30) -> None:
    """Wait until the asynchronous condition holds. Fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {within} s"
        await asyncio.sleep(0.1)


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    pids = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pids += [int(child) for child in (task / "children").read_text().split()]
    return pids


def kill_workers(running: RunningGateway) -> set[int]:
    """Kill all workers with SIGKILL. Return their process ids."""
    workers = set(children(running.pid))
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    return workers


def has_new_workers(running: RunningGateway, killed: set[int], count: int = 2) -> bool:
    """Return whether there are `count` workers that are not among the killed ones."""
    return len(set(children(running.pid)) - killed) >= count


async def read_stream(running: RunningGateway, chunks: int, started: list[int]) -> Answer:
    """Read one stream of this many chunks, ten a second, and append to `started` at its first chunk."""
    async with await FaultClient.connect(port(running)) as client:
        await client.post(chat(text=f"#chunks={chunks}##delay=100ms#", stream=True))
        await client.read_until(b'"content"', 60)
        started.append(chunks)
        return await client.answer(60)


async def open_streams(running: RunningGateway, short: int, long: int) -> list[asyncio.Task[Answer]]:
    """Open streams that last two seconds and streams that last minutes. Return once all have started."""
    started: list[int] = []
    tasks = [asyncio.create_task(read_stream(running, SHORT, started)) for _ in range(short)]
    tasks += [asyncio.create_task(read_stream(running, 3000, started)) for _ in range(long)]
    while len(started) < short + long:
        await asyncio.sleep(0.02)
        for task in tasks:
            if task.done() and len(started) < short + long:
                task.result()
    return tasks

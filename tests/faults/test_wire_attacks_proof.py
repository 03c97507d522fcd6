"""Attacks on the framing, one by one and all together: the process serves other callers meanwhile, and its latency and memory stay flat."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.client import FaultClient, chat
from tests.faults.upstream_server import FaultUpstream
from tests.faults.wire_attackers import ATTACKS
from tests.running import Figure, RunningGateway

KEY = "lk-the-only-key-there-is-0123456789"
MAX_GROWTH_BYTES = 48 << 20
LENGTH_S = 60.0
MAX_SLOWDOWN = 3.0
WINDOWS, MAX_WINDOWS = 5, 25
WINDOW_S = 1.0
UNDISTURBED_WINDOWS = 2
"""Number of windows in which p99 must stay within the bound. In the other windows the machine may be busy; more windows are then
measured. An attack that works slows down all of them."""


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


async def attack(port: int, seconds: float) -> dict[str, int]:
    """Attack from another process, so that its work does not delay the callers here. Return the connections by attack."""
    command = [sys.executable, "-m", "tests.faults.wire_attackers", str(port), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    counts: dict[str, int] = json.loads(output.splitlines()[-1])
    return counts


async def serve_others(port: int, until: float, headers: tuple[tuple[str, str], ...]) -> list[float]:
    """Call again and again. Return the duration of each call in milliseconds."""
    durations = []
    async with await FaultClient.connect(port) as client:
        while (began := time.monotonic()) < until:
            await client.post(chat(), headers)
            assert (await client.answer(60)).status == 200
            durations.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(0.005)
    return durations


def p99(durations: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(durations)[int(len(durations) * 0.99)]


def undisturbed(ratios: list[float]) -> int:
    """Return the number of windows within the bound."""
    return sum(ratio <= MAX_SLOWDOWN for ratio in ratios)


async def slowdowns(port: int, name: str) -> list[float]:
    """Return p99 during an attack divided by p99 without it, for each window. The attacker is stopped in every other window."""
    command = [sys.executable, "-m", "tests.faults.wire_attackers", str(port), "600", name]
    attacker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert attacker.stdout is not None
    try:
        assert await attacker.stdout.readline() == b"attacking\n"
        ratios: list[float] = []
        while len(ratios) < WINDOWS or (undisturbed(ratios) < UNDISTURBED_WINDOWS and len(ratios) < MAX_WINDOWS):
            during = await serve_others(port, time.monotonic() + WINDOW_S, ())
            attacker.send_signal(signal.SIGSTOP)
            alone = await serve_others(port, time.monotonic() + WINDOW_S, ())
            attacker.send_signal(signal.SIGCONT)
            ratios.append(p99(during) / p99(alone))
        assert attacker.returncode is None
        return sorted(ratios)
    finally:
        attacker.kill()
        await attacker.wait()


@pytest.mark.prove
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ATTACKS)
async def test_no_attack_slows_down_other_callers(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure, name: str
) -> None:
    text = f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels: {{ m: up/mock }}\n'
    running: RunningGateway = await asyncio.to_thread(gateway, text)
    await asyncio.to_thread(running.wait_ready)
    port = int(running.url.rsplit(":", 1)[1])
    await serve_others(port, time.monotonic() + 0.5, ())
    ratios = await slowdowns(port, name)
    figure(f"p99 during '{name}'", ratios[len(ratios) // 2], "x")
    assert undisturbed(ratios) >= UNDISTURBED_WINDOWS, ratios


@pytest.mark.prove
@pytest.mark.timeout(180)
@pytest.mark.parametrize("keyed", [False, True], ids=["open", "without the key"])
async def test_other_callers_are_served_and_memory_stays_flat_during_all_attacks(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure, keyed: bool
) -> None:
    text = f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels: {{ m: up/mock }}\n'
    if keyed:
        text += f'keys: {{ k: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}" }} }}\n'
    running: RunningGateway = await asyncio.to_thread(gateway, text)
    await asyncio.to_thread(running.wait_ready)
    port = int(running.url.rsplit(":", 1)[1])
    headers = (("authorization", f"Bearer {KEY}"),) if keyed else ()
    await serve_others(port, time.monotonic() + 0.5, headers)
    alone = sorted(await serve_others(port, time.monotonic() + 1, headers))
    before = memory_of(running.pid)
    until = time.monotonic() + LENGTH_S
    durations, counts = await asyncio.gather(serve_others(port, until, headers), attack(port, LENGTH_S))
    grown = memory_of(running.pid) - before
    durations.sort()
    figure("p50 alone", alone[len(alone) // 2], "ms")
    figure("p99 alone", p99(alone), "ms")
    figure("p50 during the attacks", durations[len(durations) // 2], "ms")
    figure("p99 during the attacks", p99(durations), "ms")
    figure("memory grown", grown / (1 << 20), "MiB")
    figure("attacking connections", sum(counts.values()), "")
    assert min(counts.values()) > 0
    assert grown < MAX_GROWTH_BYTES
    assert len(durations) > 3

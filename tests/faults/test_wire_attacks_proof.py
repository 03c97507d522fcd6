"""Attacks on the framing for some time, while other callers are served by the same process and its memory stays flat."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.client import FaultClient, chat, request_head
from tests.faults.test_wire_attacks import ENDLESS, flood
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

KEY = "lk-the-only-key-there-is-0123456789"
MAX_GROWTH_BYTES = 48 << 20
ATTACKERS = 4
LENGTHS = [0.5, pytest.param(60.0, marks=[pytest.mark.prove, pytest.mark.timeout(180)])]
SLOW = {"trickled trailer": (b"0\r\nx: ", b"y"), "trickled chunks": (b"", b"1\r\n \r\n")}
ATTACKS = {**ENDLESS, **SLOW}


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


async def attack(port: int, name: str, opened: list[float]) -> None:
    """Open connections and flood each until it is closed. Ends only when it is cancelled."""
    start, piece = ATTACKS[name]
    while True:
        async with await FaultClient.connect(port) as client:
            opened.append(time.monotonic())
            with contextlib.suppress(ConnectionError, TimeoutError):
                await client.send(request_head(None) + start)
                await flood(client, piece, 1 << 24, 0.01 if name in SLOW else 0.0)


async def serve_others(port: int, seconds: float, headers: tuple[tuple[str, str], ...]) -> list[float]:
    """Call again and again for some time, at least four times. Return the duration of each call in milliseconds."""
    durations: list[float] = []
    until = time.monotonic() + seconds
    async with await FaultClient.connect(port) as client:
        while (began := time.monotonic()) < until or len(durations) < 4:
            await client.post(chat(), headers)
            assert (await client.answer(60)).status == 200
            durations.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(0.005)
    return durations


@pytest.mark.parametrize("seconds", LENGTHS)
@pytest.mark.parametrize("keyed", [False, True], ids=["open", "without the key"])
@pytest.mark.parametrize("name", ATTACKS)
async def test_other_callers_are_served_and_memory_stays_flat_during_an_attack(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure, name: str, keyed: bool, seconds: float
) -> None:
    text = f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels: {{ m: up/mock }}\n'
    if keyed:
        text += f'keys: {{ k: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}" }} }}\n'
    running: RunningGateway = await asyncio.to_thread(gateway, text)
    await asyncio.to_thread(running.wait_ready)
    port = int(running.url.rsplit(":", 1)[1])
    headers = (("authorization", f"Bearer {KEY}"),) if keyed else ()
    alone = sorted(await serve_others(port, min(1.0, seconds / 2), headers))
    before = memory_of(running.pid)
    opened: list[float] = []
    attackers = [asyncio.create_task(attack(port, name, opened)) for _ in range(ATTACKERS)]
    durations = await serve_others(port, seconds, headers)
    grown = memory_of(running.pid) - before
    for attacker in attackers:
        attacker.cancel()
    ends = await asyncio.gather(*attackers, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * ATTACKERS
    durations.sort()
    figure("p50 alone", alone[len(alone) // 2], "ms")
    figure("p50 during the attack", durations[len(durations) // 2], "ms")
    figure("p99 during the attack", durations[int(len(durations) * 0.99)], "ms")
    figure("memory grown", grown / (1 << 20), "MiB")
    figure("attacking connections", len(opened), "")
    assert grown < MAX_GROWTH_BYTES
    assert len(opened) >= ATTACKERS

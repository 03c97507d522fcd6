"""Five processes, two network partitions, a million calls: no window exceeds its limit, and nothing that was used is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store.limit import US_PER_S
from gateway.store.limit_usage import usage_at
from tests.faults.toxic_proxy import ToxicProxy
from tests.running import Figure
from tests.store.partition_worker import COUNTERS, REQUESTS, TOKENS
from tests.support.redis import RedisServer

CALLS = 1_000_000
PROCESSES = 5
PARTITIONS = ((10.0, (4,)), (34.0, (0, 1)))
"""The second at which each partition begins, and the processes that it cuts off."""
PARTED_S = 16.0
ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def processes(folder: Path, ports: list[int]) -> AsyncIterator[list[subprocess.Popen[bytes]]]:
    """Start one worker per port, and end all of them."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for at, port in enumerate(ports):
            arguments = [str(part) for part in (port, at, CALLS // PROCESSES, folder / f"{at}.json")]
            command = [sys.executable, "-m", "tests.store.partition_worker", *arguments]
            running.append(await asyncio.to_thread(subprocess.Popen, command, cwd=ROOT, stdout=subprocess.PIPE))
        for one in running:
            assert one.stdout is not None
            assert await asyncio.to_thread(one.stdout.readline) == b"ready\n"
        yield running
    finally:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def excess(admitted: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return the number of admissions at which a window of one second exceeds a limit.

    Also return the most requests and the most tokens in a window.
    """
    over = tokens = first = most_requests = most_tokens = 0
    for at, (decided, size, _) in enumerate(admitted):
        tokens += size
        while admitted[first][0] <= decided - US_PER_S:
            tokens -= admitted[first][1]
            first += 1
        over += at - first + 1 > REQUESTS or tokens > TOKENS
        most_requests, most_tokens = max(most_requests, at - first + 1), max(most_tokens, tokens)
    return over, most_requests, most_tokens


@pytest.mark.prove
@pytest.mark.timeout(1800)
async def test_two_partitions_admit_nothing_over_the_limit_and_lose_nothing(
    own_redis: RedisServer, tmp_path: Path, figure: Figure
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(ToxicProxy(own_redis.port)) for _ in PARTITIONS]
        ports = [own_redis.port] * PROCESSES
        for proxy, (_, cut) in zip(proxies, PARTITIONS, strict=True):
            for at in cut:
                ports[at] = proxy.port
        running = await stack.enter_async_context(processes(tmp_path, ports))
        now = 0.0
        for proxy, (begin, _) in zip(proxies, PARTITIONS, strict=True):
            await asyncio.sleep(begin - now)
            proxy.part(True)
            await asyncio.sleep(PARTED_S)
            proxy.part(False)
            now = begin + PARTED_S
        assert await asyncio.gather(*(asyncio.to_thread(one.wait, 1500) for one in running)) == [0] * PROCESSES
        usages = await usage_at(own_redis.address, COUNTERS)
    results: list[dict[str, Any]] = [json.loads((tmp_path / f"{at}.json").read_text()) for at in range(PROCESSES)]
    admitted = sorted(call for at in range(PROCESSES) for call in calls_of(tmp_path / f"{at}.json.admitted"))
    over, requests, tokens = excess(admitted)
    used = {"tokens": sum(one["tokens"] for one in results), "spend": sum(one["nano"] for one in results)}
    figure("calls", CALLS, f"in {PROCESSES} processes")
    figure("admitted", len(admitted), "calls")
    figure("of them without the store", sum(call[2] for call in admitted), "calls")
    figure("over-admissions in any window", over, "")
    figure("fullest window", requests, f"of {REQUESTS} requests")
    figure("fullest window", tokens, f"of {TOKENS} tokens")
    figure("tokens lost", used["tokens"] - usages[0].used, f"of {used['tokens']}")
    figure("nano-dollars lost", used["spend"] - usages[1].used, f"of {used['spend']}")
    figure("CPU of the processes", sum(one["cpu"] for one in results), "s")
    assert over == 0
    assert [usage.used for usage in usages] == [used[limit.kind] for limit in COUNTERS]
    assert [usage.reserved for usage in usages] == [None, 0, 0]
    assert any(call[2] for call in calls_of(tmp_path / "4.json.admitted"))  # the processes used their shares
    assert any(call[2] for call in calls_of(tmp_path / "0.json.admitted"))


def calls_of(path: Path) -> list[tuple[int, int, int]]:
    """Return the admitted calls of a worker."""
    numbers = array("q")
    numbers.frombytes(path.read_bytes())
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))

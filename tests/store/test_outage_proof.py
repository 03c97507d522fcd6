"""Several processes under load while Redis is frozen, unreachable or full of leases of dead processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store.limit import NO_COSTS, US_PER_S, Limit, Reservation
from tests.faults.toxic_proxy import ToxicProxy
from tests.flows.live import eventually
from tests.running import Figure
from tests.store.outage_worker import CALLERS, CALLS, REQUESTS, TOKENS
from tests.store.test_redis import ask
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter

ROOT = Path(__file__).parents[2]
DEADLINE = 0.05


class Workers:
    """Worker processes that share one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._outs: list[Path] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    async def start(self, ports: list[int], seconds: float, hold: float = 0.01) -> None:
        """Start one worker per port, connected to the store at that port, and wait until all are ready."""
        for at, port in enumerate(ports):
            out = self._folder / f"{at}.json"
            self._outs.append(out)
            told = [str(part) for part in (port, at, seconds, DEADLINE, hold, out)]
            self.processes.append(await asyncio.to_thread(_spawn, told))
        for one in self.processes:
            assert one.stdout is not None
            assert await asyncio.to_thread(one.stdout.readline) == b"ready\n"

    async def results(self) -> list[dict[str, Any]]:
        """Return the records of all workers."""
        assert await asyncio.gather(*(asyncio.to_thread(one.wait, 120) for one in self.processes)) == [0] * len(self.processes)
        return [json.loads(out.read_text()) for out in self._outs]

    def end(self) -> None:
        """End all workers."""
        for one in self.processes:
            with contextlib.suppress(ProcessLookupError):
                one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def _spawn(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.store.outage_worker", *arguments], cwd=ROOT, stdout=subprocess.PIPE)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Workers started by the test."""
    found = Workers(tmp_path)
    yield found
    found.end()


def fullest(results: list[dict[str, Any]], start: int, end: int) -> tuple[int, int, int]:
    """Return the largest number of requests and tokens in a window of one second, and of concurrent calls, between two times."""
    record = sorted((tuple(each) for one in results for each in one["admitted"]), key=lambda each: each[0])
    first = tokens = most_requests = most_tokens = 0
    for at, (decided, size, *_) in enumerate(record):
        tokens += size
        while record[first][0] <= decided - US_PER_S:
            tokens -= record[first][1]
            first += 1
        if start <= decided < end:
            most_requests, most_tokens = max(most_requests, at - first + 1), max(most_tokens, tokens)
    steps = sorted([(each[0], 1) for each in record] + [(each[2], -1) for each in record])
    held = most_held = 0
    for moment, step in steps:
        held += step
        if start <= moment < end:
            most_held = max(most_held, held)
    return most_requests, most_tokens, most_held


def now() -> int:
    """Return microseconds since 1970 by the system clock, which Redis uses as well."""
    return time.time_ns() // 1000


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_r3_g3_each_caller_waits_for_a_frozen_redis_once_and_shares_hold(
    own_redis: RedisServer, workers: Workers, figure: Figure
) -> None:
    await workers.start([own_redis.port] * 3, 32)
    await asyncio.sleep(5)
    frozen = now()
    own_redis.freeze()
    await asyncio.sleep(10)
    thawed = now()
    own_redis.thaw()
    results = await workers.results()
    waits = [wait for one in results for moment, wait in one["waited"] if frozen <= moment < frozen + 2 * US_PER_S]
    back = [min(moment for moment in one["shared_at"] if moment >= thawed) for one in results]
    requests, tokens, calls = fullest(results, frozen, thawed + 3 * US_PER_S)
    during = sum(frozen + US_PER_S < each[0] < thawed for one in results for each in one["admitted"])
    figure("decisions that waited for the deadline", len(waits), f"of {3 * CALLERS} callers")
    figure("longest of them", max(waits, default=0) * 1000, "ms")
    figure("decisions that waited after the breaker had opened", sum(one["waited_while_down"] for one in results), "")
    figure("fullest window around the outage", requests, f"of {REQUESTS} requests")
    figure("fullest window around the outage", tokens, f"of {TOKENS} tokens")
    figure("most at the same time around the outage", calls, f"of {CALLS} calls")
    figure("admitted by shares", during / 9, "requests a second")
    figure("shared again after", (max(back) - thawed) / 1000, "ms")
    assert sum(one["waited_while_down"] for one in results) == 0
    assert len(waits) <= 3 * CALLERS  # once per caller
    assert all(len(one["lines"]) >= 2 for one in results)  # a busy machine may cause further outages
    assert requests <= REQUESTS
    assert tokens <= TOKENS
    assert calls <= CALLS
    assert during > 9 * REQUESTS / 4  # shares are used


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_m3_g3_a_partitioned_process_and_the_others_keep_one_limit(
    own_redis: RedisServer, workers: Workers, figure: Figure
) -> None:
    async with ToxicProxy(own_redis.port) as proxy:
        await workers.start([own_redis.port, own_redis.port, proxy.port], 25)
        await asyncio.sleep(4)
        parted = now()
        proxy.part(True)
        await asyncio.sleep(14)
        proxy.part(False)
        joined = now()
        results = await workers.results()
    cut, others = results[2], results[:2]
    requests, tokens, calls = fullest(results, parted, joined + 4 * US_PER_S)
    shared = fullest(others, parted + 4 * US_PER_S, joined)[0]
    back = fullest(results, joined + 2 * US_PER_S, joined + 4 * US_PER_S)[0]
    away = sum(each[3] for one in others for each in one["admitted"])
    by_shares = sum(each[3] and parted + 4 * US_PER_S < each[0] < joined for each in cut["admitted"])
    figure("fullest window of all from the cut on", requests, f"of {REQUESTS} requests")
    figure("fullest window of all from the cut on", tokens, f"of {TOKENS} tokens")
    figure("most at the same time from the cut on", calls, f"of {CALLS} calls")
    figure("the one cut off, by its share", by_shares / 10, f"requests a second, of {REQUESTS // 3}")
    figure("fullest window of the others meanwhile", shared, f"of {REQUESTS - REQUESTS // 3}")
    figure("fullest window when all are back", back, f"of {REQUESTS}")
    figure("of the others' calls, decided without the store", away, f"of {sum(len(one['admitted']) for one in others)}")
    assert sum(one["waited_while_down"] for one in results) == 0
    assert away < sum(len(one["admitted"]) for one in others) / 2  # other processes are not affected, except by a busy machine
    assert not cut["admitted"][-1][3]  # limits are shared again
    assert requests <= REQUESTS
    assert tokens <= TOKENS
    assert calls <= CALLS
    assert by_shares > 10 * REQUESTS // 3 / 4  # the held-back share is used
    assert shared > (REQUESTS - REQUESTS // 3) / 2
    assert back > REQUESTS - REQUESTS // 3  # the share is released


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_m4_leases_of_killed_processes_end_after_the_lease_time(
    own_redis: RedisServer, workers: Workers, start: LimiterStarter, figure: Figure
) -> None:
    alive = await start(own_redis.address)
    limit = Limit("proof", "concurrent", CALLS)
    await workers.start([own_redis.port] * 2, 100, hold=1000)
    while isinstance(one_more := await ask(alive, limit), Reservation):
        alive.settle(one_more, NO_COSTS)
        await asyncio.sleep(0.1)
    await asyncio.sleep(7)  # so that some leases were renewed
    for one in workers.processes:
        one.send_signal(signal.SIGKILL)
        one.wait()
    killed, held, taken = time.monotonic(), [], 0
    while len(held) < CALLS and time.monotonic() - killed < 60:
        found = await ask(alive, limit)
        if isinstance(found, Reservation):
            assert not found.degraded
            held.append(found)
        else:
            taken = max(taken, CALLS - len(held))
            await asyncio.sleep(0.05)
    figure("leases of the dead", taken, f"of {CALLS}")
    figure("all free after", time.monotonic() - killed, "s")
    assert len(held) == CALLS
    assert taken > 0
    assert time.monotonic() - killed < 40
    assert not isinstance(await ask(alive, limit), Reservation)


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_r14_g18_a_hundred_thousand_cancelled_commands_mix_up_no_replies(own_redis: RedisServer, figure: Figure) -> None:
    import random

    from gateway.config.redis_address import RedisAddress
    from gateway.store.resp import connect

    draw, cancelled, answered, wrong = random.Random(3), 0, 0, 0

    async def one(connection: Any, number: int) -> None:
        nonlocal answered, wrong
        answer = await connection.execute("ECHO", b"%d" % number)
        answered += 1
        wrong += answer != b"%d" % number

    async with ToxicProxy(own_redis.port) as proxy:
        proxy.jitter, proxy.slice = 0.002, 700
        connections = [await connect(RedisAddress(port=proxy.port), lambda: None) for _ in range(8)]
        number = 0
        while cancelled < 100_000:
            tasks = []
            for connection in connections:
                for _ in range(40):
                    number += 1
                    tasks.append(asyncio.create_task(one(connection, number)))
            await asyncio.sleep(draw.random() * 0.003)
            for task in tasks:
                if draw.random() < 0.8:
                    cancelled += task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        for connection in connections:
            assert await connection.execute("ECHO", b"last") == b"last"
            connection.abort()
    figure("commands", number, "")
    figure("cancelled", cancelled, "")
    figure("answers that were another's", wrong, f"of {answered}")
    assert wrong == 0
    assert answered > 1000


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_g7_a_flood_of_refused_calls_sends_few_commands_and_does_not_slow_others(
    own_redis: RedisServer, start: LimiterStarter, figure: Figure
) -> None:
    flooded, neighbour = await start(own_redis.address), await start(own_redis.address)
    full, free = Limit("flooded", "requests", 5, "h"), Limit("neighbour", "requests", 10**6, "h")
    while isinstance(await ask(flooded, full), Reservation):
        pass
    before, served, done = flooded.connections.commands, 0, False

    async def go_on() -> None:
        nonlocal served
        while not done:
            found = await ask(neighbour, free)
            assert isinstance(found, Reservation)
            assert not found.degraded
            served += 1

    going = asyncio.create_task(go_on())
    began = time.monotonic()
    for at in range(50_000):
        assert not isinstance(await ask(flooded, full), Reservation)
        if at % 100 == 0:
            await asyncio.sleep(0)
    took, operations = time.monotonic() - began, flooded.connections.commands - before
    done = True
    await going
    figure("refused", 50_000, f"in {took:.1f} s")
    figure("Redis operations for them, heartbeats and all", operations, "")
    figure("served to a neighbour meanwhile", served, "")
    assert operations <= 100
    assert served > 0
    await eventually(lambda: not flooded._queued)

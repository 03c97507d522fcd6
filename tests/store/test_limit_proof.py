"""Three processes, one Redis, 100,000 requests: no window exceeds its limit, judged by the decision times of the script."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import script_args as encode
from gateway.store.limit import US_PER_S, Costs, Limit, Reservation
from gateway.store.scripts import ADMIT, SETTLE
from gateway.store.settled_spend import SettledSpend
from tests.running import Figure
from tests.store.frozen_scripts import NO_RUN
from tests.store.limit_worker import CALLS, REQUESTS, TOKENS
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter

ASKS = 100_000
PROCESSES = 3
LEASE = 30 * US_PER_S
TENTH = US_PER_S // 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the records of all processes."""
    folder = tmp_path_factory.mktemp("proof")
    server = RedisServer(folder)
    try:
        outs = [folder / f"{at}.json" for at in range(PROCESSES)]
        commands = [
            [sys.executable, "-m", "tests.store.limit_worker", str(server.socket), str(at), str(ASKS // PROCESSES + 1), str(out)]
            for at, out in enumerate(outs)
        ]
        workers = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for command in commands]
        assert [worker.wait(600) for worker in workers] == [0] * PROCESSES
        return [json.loads(out.read_text()) for out in outs]
    finally:
        server.kill()


@pytest.mark.prove
@pytest.mark.timeout(700)
def test_no_window_holds_more_than_its_limit_over_three_processes(run: list[dict[str, Any]], figure: Figure) -> None:
    assert sum(one["degraded"] for one in run) == 0
    record = sorted((tuple(each) for one in run for each in one["record"]), key=lambda each: each[0])
    over, tokens, start = 0, 0, 0
    for at, (decided, size, _) in enumerate(record):
        tokens += size
        while record[start][0] <= decided - US_PER_S:
            tokens -= record[start][1]
            start += 1
        over += at - start + 1 > REQUESTS or tokens > TOKENS
    steps = sorted([(decided, 1) for decided, _, _ in record] + [(back, -1) for _, _, back in record], key=lambda step: (step[0], step[1]))
    held = most = 0
    for _, step in steps:
        held += step
        most = max(most, held)
    windows = usable(record, sum((Counter({int(at): n for at, n in one["asked"].items()}) for one in run), Counter[int]()))
    figure("asked", ASKS, "requests")
    figure("admitted", len(record), "requests")
    figure("over-admissions in any window", over, "")
    figure("most at the same time", most, f"of {CALLS}")
    figure("windows with twice the limit asked for all the time", len(windows), "")
    if windows:
        figure("of the limit used, on average", sum(windows) / len(windows) * 100, "%")
        figure("of the limit used, the window in the middle", sorted(windows)[len(windows) // 2] * 100, "%")
    figure("client CPU", sum(one["cpu"] for one in run) / ASKS * 1e6, "us a request")
    figure("commands", sum(one["commands"] for one in run), "")
    assert over == 0
    assert most <= CALLS
    # A busy machine delays decisions, which empties windows, so only the fullest one is judged, and none without enough demand.
    assert max(windows, default=1.0) >= 0.97


def usable(record: list[tuple[int, int, int]], asked: Counter[int]) -> list[float]:
    """Return the use of the fuller limit in each window with enough demand, checked every 10 ms after the first second.

    A busy machine stalls the workers: a window counts only if twice the limit was requested in each 0.1 s that it overlaps.
    """
    parts: list[float] = []
    end = record[0][0] + US_PER_S
    while end < record[-1][0]:
        if min(asked[tenth] for tenth in range((end - US_PER_S) // TENTH, end // TENTH + 1)) < 2 * REQUESTS / 10:
            end += US_PER_S // 100
            continue
        inside = [size for decided, size, _ in record[bisect_left(record, (end - US_PER_S,)) : bisect_left(record, (end,))]]
        parts.append(max(len(inside) / REQUESTS, sum(inside) / TOKENS))
        end += US_PER_S // 100
    return parts


@pytest.mark.prove
async def test_batched_decisions_compared_with_one_redis_py_call_each(redis: RedisAddress, start: LimiterStarter, figure: Figure) -> None:
    """Reserve and settle 64 concurrent calls with three limits each. Print the times; the counts must agree."""
    from redis.asyncio import Redis

    shared = [Limit("cost", "requests", 10**9, "min"), Limit("cost", "tokens", 10**9, "min"), Limit("cost", "concurrent", 10**5)]
    each, callers = 200, 64
    limiter = await start(redis)

    async def ours(number: int) -> None:
        for at in range(each):
            found = await limiter.admit(shared, Costs(prompt_tokens=9), f"o{number}.{at}")
            assert isinstance(found, Reservation)
            limiter.settle(found, Costs(prompt_tokens=5))

    before = limiter.connections.commands
    began = time.process_time()
    await asyncio.gather(*(ours(number) for number in range(callers)))
    ours_cost = (time.process_time() - began) / each / callers * 1e6
    figure("ours", ours_cost, "us of CPU a call")
    commands = (limiter.connections.commands - before) / each / callers
    figure("ours", commands, "commands a call")

    where: dict[str, Any] = {"unix_socket_path": redis.path} if redis.path else {"host": redis.host, "port": redis.port}
    client = Redis(max_connections=callers, **where)
    admit, settle = client.register_script(ADMIT), client.register_script(SETTLE)

    others = [Limit("cost-b", limit.kind, limit.amount, limit.window) for limit in shared]
    spent = SettledSpend("redis-py")

    async def theirs(number: int) -> None:
        for at in range(each):
            asked = encode.PendingDecision(others, Costs(prompt_tokens=9), f"t{number}.{at}", object())
            reply = (await admit(*encode.admit_args([asked], spent, LEASE, NO_RUN)))[0]
            found = Reservation(asked.id, others, asked.costs, reply[3::3], (), reply[1])
            await settle(*encode.settle_args([(found, Costs(prompt_tokens=5))], spent, NO_RUN))

    began = time.process_time()
    await asyncio.gather(*(theirs(number) for number in range(callers)))
    theirs_cost = (time.process_time() - began) / each / callers * 1e6
    figure("redis-py, a call for each reservation and each settlement", theirs_cost, "us of CPU a call")
    figure("ours beside redis-py's", ours_cost / theirs_cost, "")
    assert commands <= 2 / 8, "a call alone would take two commands"
    for limits in (shared, others):
        assert await client.hget(limits[1].key, "s") == b"%d" % (5 * each * callers)
        assert await client.zcard(limits[2].key) == 0
    await client.aclose()

"""If Redis loses data, separate processes restore it, also from the journal of processes that have ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Reservation
from gateway.store.redis import RedisLimiter
from gateway.store.scripts import ADMIT, SETTLE
from gateway.store.settled_spend import SettledSpend
from gateway.store.window_usage import WindowUsage
from tests.flows.live import eventually
from tests.store.test_lost_data import HOUR, TARGET, call, lost, settle_all, used
from tests.store.test_window_usage import successor
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import DECISION_TIMEOUT_S, LimiterStarter
from tests.support.redis_topologies import run_command


async def limiter_of(address: RedisAddress, windows: WindowUsage) -> RedisLimiter:
    """Start a limiter with the charges that its journal has."""
    spent = SettledSpend(windows.incarnation)
    limiter = RedisLimiter(address, lambda line: None, timeout_s=DECISION_TIMEOUT_S, settled_spend=spent, window_usage=windows)
    await limiter.start()
    return limiter


async def test_a_successor_restores_the_charges_of_ended_processes_to_an_emptied_redis(redis: RedisAddress) -> None:
    first = WindowUsage("first")
    limiter = await limiter_of(redis, first)
    for _ in range(20):
        assert await call(limiter)
        assert await call(limiter, TARGET)
    await settle_all(limiter)
    await limiter.stop()
    second = successor(first, "second")
    limiter = await limiter_of(redis, second)
    assert await call(limiter)
    await settle_all(limiter)
    assert await used(redis) == [21, 21, 21 * 7]  # Redis has the charges: the successor adds nothing
    await run_command(redis, "FLUSHALL")
    await lost(limiter)
    assert await used(redis) == [21, 21, 21 * 7]
    assert await used(redis, TARGET) == [20]
    await limiter.stop()
    await run_command(redis, "FLUSHALL")  # while no process runs
    limiter = await limiter_of(redis, successor(second, "third"))
    await settle_all(limiter)
    assert await used(redis) == [21, 21, 21 * 7]
    await run_command(redis, "CLIENT", "KILL", "TYPE", "normal")
    await eventually(lambda: limiter.connections.errors.get("connection", 0))
    await settle_all(limiter)
    assert await used(redis) == [21, 21, 21 * 7]
    await limiter.stop()


WORKER = """
import asyncio, itertools, sys
from gateway.config.redis_address import RedisAddress
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.redis import RedisLimiter

async def main():
    limit = Limit("k", "requests", 400, "h")
    limiter = RedisLimiter(RedisAddress(path=sys.argv[1]), lambda line: None, timeout_s=20.0)
    await limiter.start()
    while limiter.members < 2:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    loop, admitted, running = asyncio.get_running_loop(), 0, True
    ended = loop.run_in_executor(None, sys.stdin.readline)
    async def caller(number):
        nonlocal admitted
        for at in itertools.count():
            if ended.done():
                return
            found = await limiter.admit([limit], Costs(), f"{sys.argv[2]}.{number}.{at}")
            if isinstance(found, Reservation):
                admitted += 1
                limiter.settle(found, Costs())
            await asyncio.sleep(0.002)
    await asyncio.gather(*(caller(number) for number in range(6)))
    while not limiter.decides or limiter._settlements or limiter._usage_replay.unconfirmed():
        await asyncio.sleep(0.01)
    await limiter.stop()
    print(admitted, flush=True)

asyncio.run(main())
"""


async def test_two_processes_use_a_limit_once_although_redis_is_emptied_twice(own_redis: RedisServer) -> None:
    pipe = asyncio.subprocess.PIPE
    root = Path(__file__).parents[2]
    arguments = (sys.executable, "-c", WORKER, str(own_redis.socket))
    running = [await asyncio.create_subprocess_exec(*arguments, str(at), stdin=pipe, stdout=pipe, cwd=root) for at in range(2)]
    try:
        for each in running:
            assert each.stdout is not None
            assert await each.stdout.readline() == b"ready\n"
        for pause_s in (0.05, 2.0):
            await asyncio.sleep(pause_s)
            await run_command(own_redis.address, "FLUSHALL")

        async def is_restored() -> bool:
            return await used(own_redis.address, HOUR) == [HOUR.amount]

        for _ in range(600):
            if await is_restored():
                break
            await asyncio.sleep(0.05)
        admitted = 0
        for each in running:
            assert each.stdout is not None
            assert each.stdin is not None
            each.stdin.write(b"\n")
            admitted += int(await each.stdout.readline())
        assert admitted == HOUR.amount
        assert await used(own_redis.address, HOUR) == [HOUR.amount]
    finally:
        for each in running:
            if each.returncode is None:
                each.kill()
            await each.wait()


async def test_a_call_that_is_charged_again_and_settled_without_replies_counts_once(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    held = await limiter.admit([HOUR], Costs(), "held")
    assert isinstance(held, Reservation)
    send, drops = limiter.connections.run, [True]

    def run(script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: Callable[[Any], Any]) -> None:
        is_lost = drops[0] and script in (ADMIT, SETTLE)
        send(script, keys, arguments, lambda reply: on_reply(ConnectionError("lost after execution") if is_lost else reply))

    limiter.connections.run = run  # type: ignore[method-assign]
    limiter._resend_state()
    limiter.settle(held, Costs())
    await eventually(lambda: limiter._settlements.pending and limiter._unanswered_forced)
    drops[0] = False
    await run_command(redis, "CLIENT", "KILL", "TYPE", "normal")
    await eventually(lambda: limiter.connections.errors.get("connection", 0))
    await settle_all(limiter)
    assert await used(redis, HOUR) == [1]

"""If Redis loses data while processes run, each of their charges to windows is restored once, and limits hold meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store.gathering import REPORT_S
from gateway.store.limit import NO_COSTS, Costs, Limit, Reservation
from gateway.store.limit_usage import usage_at
from gateway.store.memory import steady_now
from gateway.store.redis import RedisLimiter
from gateway.store.replay_scripts import CHECK_RUN, REPLAY_USAGE
from gateway.store.runs import GATHER_S, lost_key
from gateway.store.script_args import run_key
from gateway.store.scripts import ADMIT
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import run_command

HOUR, DAY, TOKENS = Limit("k", "requests", 400, "h"), Limit("k", "requests", 1000, "day"), Limit("k", "tokens", 10_000, "h")
TARGET = Limit("p", "requests", 500, "h", side="target")
ALL = (HOUR, DAY, TOKENS)
_ids = itertools.count()


async def call(limiter: RedisLimiter, *limits: Limit, tokens: int = 7, reserve: int = 9) -> Reservation | None:
    """Admit and settle a call. Return None if it is refused."""
    found = await limiter.admit(limits or ALL, Costs(prompt_tokens=reserve), f"c{next(_ids)}")
    if not isinstance(found, Reservation):
        return None
    limiter.settle(found, Costs(prompt_tokens=tokens))
    return found


async def used(address: RedisAddress, *limits: Limit) -> list[int]:
    """Return the usage that Redis has."""
    return [usage.used for usage in await usage_at(address, limits or ALL)]


async def settle_all(*limiters: RedisLimiter) -> None:
    """Wait until Redis decides and has everything."""
    await eventually(lambda: all(each.decides and not each._settlements and not each._usage_replay._pending for each in limiters))
    await asyncio.sleep(0.05)


async def lost(*limiters: RedisLimiter) -> None:
    """Wait until each limiter has noticed a loss and Redis decides again."""
    await eventually(lambda: all(each.connections.errors.get("lost", 0) for each in limiters))
    await settle_all(*limiters)


async def test_an_emptied_redis_gets_the_windows_of_all_processes_back_once(redis: RedisAddress, start: LimiterStarter) -> None:
    limiters = [await start(redis) for _ in range(2)]
    for at in range(60):
        assert await call(limiters[at % 2])
        assert await call(limiters[0], TARGET)
    await settle_all(*limiters)
    await eventually(lambda: all(limiter.members == 2 for limiter in limiters))
    expected = [60, 60, 60 * 7]
    assert await used(redis) == expected
    for times in (1, 2):
        await run_command(redis, "FLUSHALL")
        await eventually(lambda times=times: all(each.connections.errors.get("lost", 0) >= times for each in limiters))
        await settle_all(*limiters)
        assert await used(redis) == expected
        assert await used(redis, TARGET) == [60]
    slots = await run_command(redis, "HGETALL", HOUR.key)
    assert sum(int(value) for field, value in zip(slots[::2], slots[1::2], strict=True) if field.isdigit()) == 60


async def test_calls_in_flight_when_redis_was_emptied_are_charged_once(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    held = [await limiter.admit(ALL, Costs(prompt_tokens=50), f"open{at}") for at in range(5)]
    assert await call(limiter)
    await settle_all(limiter)
    await run_command(redis, "FLUSHALL")
    await lost(limiter)
    assert await used(redis) == [6, 6, 5 * 50 + 7]
    for each in held:
        assert isinstance(each, Reservation)
        limiter.settle(each, Costs(prompt_tokens=20))
    await settle_all(limiter)
    assert await used(redis) == [6, 6, 5 * 20 + 7]
    await run_command(redis, "FLUSHALL")
    await eventually(lambda: limiter.connections.errors["lost"] == 2)
    await settle_all(limiter)
    assert await used(redis) == [6, 6, 5 * 20 + 7]


@pytest.mark.parametrize("how", ["kill the connection", "restart with the data", "lose the scripts"])
async def test_nothing_is_charged_twice_if_redis_keeps_its_data(own_redis: RedisServer, start: LimiterStarter, how: str) -> None:
    limiters = [await start(own_redis.address) for _ in range(2)]
    for at in range(40):
        assert await call(limiters[at % 2])
    held = await limiters[0].admit(ALL, Costs(prompt_tokens=3), "open")
    assert isinstance(held, Reservation)
    await settle_all(*limiters)
    if how == "lose the scripts":
        await run_command(own_redis.address, "SCRIPT", "FLUSH")
    elif how == "kill the connection":
        await run_command(own_redis.address, "CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: all(each.connections.errors.get("connection", 0) for each in limiters))
    else:
        await run_command(own_redis.address, "SAVE")
        own_redis.kill()
        await eventually(lambda: not any(each.connections.up for each in limiters))
        own_redis.start()
    await settle_all(*limiters)
    assert await call(limiters[0])
    limiters[0].settle(held, Costs(prompt_tokens=3))
    await settle_all(*limiters)
    assert await used(own_redis.address) == [42, 42, 41 * 7 + 3]
    assert not any(each.connections.errors.get("lost", 0) for each in limiters)


async def test_foreign_values_under_the_keys_of_a_loss_are_replaced(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    await run_command(redis, "RPUSH", lost_key("caller"), "x")
    await run_command(redis, "DEL", run_key("caller", limiter.instance))
    await run_command(redis, "RPUSH", run_key("caller", limiter.instance), "x")
    await lost(limiter)
    assert await call(limiter)
    await settle_all(limiter)
    assert await used(redis) == [1, 1, 7]


async def test_an_old_copy_gets_only_what_it_lacks(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiters = [await start(own_redis.address) for _ in range(2)]
    early = await limiters[0].admit(ALL, Costs(prompt_tokens=90), "settled after the copy")
    assert isinstance(early, Reservation)
    for at in range(30):
        assert await call(limiters[at % 2])
    await settle_all(*limiters)
    await run_command(own_redis.address, "SAVE")
    copy = (own_redis.socket.parent / "saved.rdb").read_bytes()
    limiters[0].settle(early, Costs(prompt_tokens=40))
    for at in range(20):
        assert await call(limiters[at % 2])
    await settle_all(*limiters)
    own_redis.kill()
    await eventually(lambda: not any(each.connections.up for each in limiters))
    (own_redis.socket.parent / "saved.rdb").write_bytes(copy)
    own_redis.start()
    await settle_all(*limiters)
    assert await used(own_redis.address) == [51, 51, 50 * 7 + 40]


async def test_of_a_copy_that_is_older_than_the_kept_runs_at_most_one_slot_counts_twice(
    own_redis: RedisServer, start: LimiterStarter
) -> None:
    limiter = await start(own_redis.address)
    early = HOUR.slot_at(steady_now()) - 40
    limiter._runs._windows.add([(HOUR, early, 60)])  # of a slot long before the copy
    for _ in range(30):
        assert await call(limiter, HOUR)
    await settle_all(limiter)
    await run_command(own_redis.address, "SAVE")
    copy = (own_redis.socket.parent / "saved.rdb").read_bytes()
    for _ in range(20):
        assert await call(limiter, HOUR)
    await settle_all(limiter)
    limiter._runs.fold(everything=True)
    own_redis.kill()
    await eventually(lambda: not limiter.connections.up)
    (own_redis.socket.parent / "saved.rdb").write_bytes(copy)
    own_redis.start()
    await settle_all(limiter)
    (usage,) = await used(own_redis.address, HOUR)
    assert 50 <= usage <= 80  # the 30 calls in the slot of the copy may count twice, but not the older ones


async def test_a_settlement_without_a_reply_is_charged_if_its_admission_is_lost(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address)
    held = await limiter.admit(ALL, Costs(prompt_tokens=90), "held")
    assert isinstance(held, Reservation)
    own_redis.kill()
    await eventually(lambda: not limiter.connections.up)
    limiter.settle(held, Costs(prompt_tokens=40))
    own_redis.start()
    await settle_all(limiter)
    assert await used(own_redis.address) == [1, 1, 40]


async def test_a_settlement_that_was_not_sent_when_the_loss_was_noticed_is_charged(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    held = await limiter.admit(ALL, Costs(prompt_tokens=90), "held")
    assert isinstance(held, Reservation)
    assert limiter._heartbeat_task is not None
    limiter._heartbeat_task.cancel()  # a heartbeat may send settlements
    await limiter.usage(ALL)  # the replies to earlier commands have arrived
    await run_command(redis, "FLUSHALL")
    limiter.settle(held, Costs(prompt_tokens=40))
    assert limiter._settlements.timer is not None
    limiter._settlements.timer.cancel()
    latest = limiter._runs.latest("caller")
    limiter.connections.run(CHECK_RUN, [latest.key], [latest.acked], lambda reply: None)
    await lost(limiter)
    assert await used(redis) == [1, 1, 40]


async def test_a_call_that_ends_before_its_second_admission_is_confirmed_is_charged(
    own_redis: RedisServer, start: LimiterStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = await start(own_redis.address, deadline=0.25)
    own_redis.kill()
    await eventually(lambda: not limiter.connections.up)
    held = await limiter.admit(ALL, Costs(prompt_tokens=90), "held")
    assert isinstance(held, Reservation)
    run, admissions = limiter.connections.run, 0

    def run_frozen(script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: Callable[[Any], None]) -> None:
        nonlocal admissions
        if script == ADMIT:
            admissions += 1
            own_redis.freeze()
        run(script, keys, arguments, on_reply)

    with monkeypatch.context() as patch:
        patch.setattr(limiter.connections, "run", run_frozen)
        own_redis.start()
        await eventually(lambda: admissions > 0 and not limiter.connections.up)
    limiter.settle(held, Costs(prompt_tokens=40))
    own_redis.kill()
    own_redis.start()
    await settle_all(limiter)
    assert await used(own_redis.address) == [1, 1, 40]


async def test_usage_of_an_outage_is_restored_as_well(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address)
    assert await call(limiter)
    await settle_all(limiter)
    own_redis.kill()
    await eventually(lambda: not limiter.connections.up)
    for _ in range(3):
        assert await call(limiter)
    own_redis.start()
    await settle_all(limiter)
    assert await used(own_redis.address) == [4, 4, 28]
    await run_command(own_redis.address, "FLUSHALL")
    await lost(limiter)
    assert await used(own_redis.address) == [4, 4, 28]


async def test_a_process_that_has_charged_nothing_notices_an_emptied_redis(redis: RedisAddress, start: LimiterStarter) -> None:
    busy, idle = await start(redis), await start(redis)
    for _ in range(300):
        assert await call(busy)
    await settle_all(busy, idle)
    await eventually(lambda: idle.members == busy.members == 2)
    await run_command(redis, "FLUSHALL")
    found = await idle.admit([HOUR], Costs(), "at once")  # by outage modes, although the new data has no usage
    assert found.degraded
    await lost(busy, idle)
    found = await idle.admit([HOUR], NO_COSTS, "afterwards")
    assert isinstance(found, Reservation)
    assert found.statuses[0].remaining == 400 - 301


def send_after(limiter: RedisLimiter, trigger: str, *command: Any, when: Callable[[], bool] = lambda: True) -> None:
    """Send a command on the limiter's connection right after a run of the script `trigger`: after the first one for which `when` holds."""
    connection = limiter.connections._single
    assert connection is not None
    run_script, to_send = connection.run, [command]

    def run(script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: Callable[[Any], None]) -> None:
        run_script(script, keys, arguments, on_reply)
        if to_send and script == trigger and when():
            assert connection._connection is not None
            connection._connection.send(to_send.pop(), lambda reply: None)

    connection.run = run  # type: ignore[method-assign]


async def test_a_second_loss_between_the_first_runs_of_a_connection_is_noticed(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter = await start(redis)
    for _ in range(30):
        assert await call(limiter)
    assert isinstance(await limiter.admit(ALL, Costs(prompt_tokens=50), "open"), Reservation)  # admitted again after the replay
    await settle_all(limiter)
    send_after(limiter, REPLAY_USAGE, "FLUSHALL")
    await run_command(redis, "FLUSHALL")
    await eventually(lambda: limiter.connections.errors.get("lost", 0) >= 2)
    await settle_all(limiter)
    assert await used(redis) == [31, 31, 30 * 7 + 50]


async def test_a_process_waits_for_one_that_notices_a_later_loss(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter, other = await start(redis), await start(redis)
    await eventually(lambda: limiter.members == other.members == 2)
    assert isinstance(await limiter.admit(ALL, Costs(), "open"), Reservation)
    await settle_all(limiter, other)
    now = "redis.call('TIME')[1] * 1000000 + redis.call('TIME')[2]"
    note = f"local now = string.format('%.0f', {now}) redis.call('SET', KEYS[1], now) redis.call('SET', KEYS[2], now)"

    def is_report() -> bool:
        return 0 < limiter._runs.gather_until <= asyncio.get_running_loop().time() + REPORT_S

    # the open call is admitted again by the report, shortly before the end of the wait
    send_after(limiter, ADMIT, "EVAL", note, 2, lost_key("caller"), "lockgate:{caller}:noticed", when=is_report)
    await run_command(redis, "FLUSHALL")
    await eventually(lambda: limiter.connections.errors.get("lost", 0) > 0 and limiter.decides)
    seconds, microseconds = await run_command(redis, "TIME")
    noticed = int(await run_command(redis, "GET", "lockgate:{caller}:noticed"))
    assert int(seconds) * 1_000_000 + int(microseconds) >= noticed + GATHER_S * 1_000_000


async def test_a_new_connection_does_not_end_the_wait_for_the_other_processes(redis: RedisAddress, start: LimiterStarter) -> None:
    limiter, other = await start(redis), await start(redis)
    await eventually(lambda: limiter.members == other.members == 2)
    assert await call(limiter)
    await settle_all(limiter, other)
    await run_command(redis, "FLUSHALL")
    await eventually(lambda: limiter.connections.errors.get("lost", 0) > 0 and limiter.connections.up)
    until, connection = limiter._runs.gather_until, limiter.connections._single
    assert connection is not None
    assert connection._connection is not None
    connection._connection.abort()
    await eventually(lambda: limiter.connections.errors.get("connection", 0) > 0 and limiter.decides)
    assert asyncio.get_running_loop().time() >= until


async def flood(limiters: list[RedisLimiter], limits: tuple[Limit, ...], until: Callable[[], Awaitable[bool]]) -> int:
    """Send calls until `until` returns true. Return the number of admitted ones."""
    admitted, running = 0, True

    async def caller(limiter: RedisLimiter) -> None:
        nonlocal admitted
        while running:
            found = await call(limiter, *limits, tokens=1, reserve=1)
            admitted += found is not None
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(caller(limiters[at % len(limiters)])) for at in range(6 * len(limiters))]
    while not await until():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    running = False
    await asyncio.gather(*tasks)
    return admitted


@pytest.mark.parametrize("gap_s", [0.02, 1.0, 1.5])
async def test_redis_emptied_under_load_admits_nothing_beyond_the_limit(redis: RedisAddress, start: LimiterStarter, gap_s: float) -> None:
    limiters = [await start(redis) for _ in range(3)]
    await eventually(lambda: all(each.members == 3 for each in limiters))
    before = 0
    for at in range(250):
        before += await call(limiters[at % 3], HOUR, tokens=1, reserve=1) is not None

    async def empty() -> None:
        for _ in range(3):
            await run_command(redis, "FLUSHALL")
            await asyncio.sleep(gap_s)
        await eventually(lambda: all(each.decides for each in limiters))

    emptying = asyncio.create_task(empty())

    async def is_over() -> bool:
        return emptying.done()

    admitted = before + await flood(limiters, (HOUR,), is_over)
    await emptying
    await settle_all(*limiters)
    assert admitted <= HOUR.amount
    assert await used(redis, HOUR) == [admitted]
    assert admitted + await flood(limiters, (HOUR,), is_full(limiters)) == HOUR.amount


def is_full(limiters: list[RedisLimiter]) -> Callable[[], Awaitable[bool]]:
    """Return a condition that holds once a limiter refuses a call."""

    async def condition() -> bool:
        return await call(limiters[0], HOUR) is None

    return condition

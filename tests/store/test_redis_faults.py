"""Faults of Redis and of the connection: each is reported once, outage modes apply meanwhile, and the limiter recovers by itself."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from pathlib import Path
from typing import Any

import hiredis
import pytest

from gateway.config.redis_address import RedisAddress
from gateway.config.secret import read_secret
from gateway.keys.redis_store import RedisKeyStore
from gateway.store import script_args
from gateway.store.connection import STABLE_AFTER_S
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.redis import RedisLimiter
from gateway.store.resp import connect
from gateway.store.script_args import PendingDecision, admit_args
from gateway.store.scripts import ADMIT
from gateway.store.settled_spend import SettledSpend
from tests.faults.tls import Certificates
from tests.faults.toxic_proxy import ToxicProxy
from tests.flows.live import eventually
from tests.store.frozen_scripts import NO_RUN
from tests.support.listener import serve_streams
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import DECISION_TIMEOUT_S, LimiterStarter
from tests.support.redis_topologies import run_command

_ids = itertools.count()
PLENTY = Limit("k", "requests", 10**6, "min")


async def decide(limiter: RedisLimiter, *limits: Limit, **costs: int) -> Reservation | Refusal:
    """Request one decision."""
    return await limiter.admit(limits or (PLENTY,), Costs(**costs), f"f{next(_ids)}")


async def test_r4_a_slow_store_opens_the_breaker_until_it_is_fast_again(own_redis: RedisServer, start: LimiterStarter) -> None:
    reports: list[str] = []
    async with ToxicProxy(own_redis.port) as proxy:
        proxy.latency = 0.4
        limiter = await start(RedisAddress(port=proxy.port), reports, deadline=0.2)
        assert (await decide(limiter)).degraded
        await asyncio.sleep(1.5)
        assert (limiter.connections.up, len(reports)) == (False, 1)
        proxy.latency = 0.0
        await eventually(lambda: limiter.connections.up)
        await eventually(lambda: len(reports) == 2)
        longest, back = 0.0, time.monotonic()
        for at in range(4):  # short interruptions
            proxy.latency = 0.5
            longest = max(longest, time.monotonic() - back if at else 0.0)
            assert (await decide(limiter)).degraded
            proxy.latency, back = 0.0, time.monotonic()
            await eventually(lambda: limiter.connections.up)
        assert len(reports) <= 4 or longest > 0.9 * STABLE_AFTER_S  # interruptions less than a second apart are one outage
        await limiter.stop()


async def test_r4_a_cut_connection_loses_no_settlement(own_redis: RedisServer, start: LimiterStarter) -> None:
    limit = Limit("k", "tokens", 10**6, "h")
    async with ToxicProxy(own_redis.port) as proxy:
        proxy.jitter, proxy.slice = 0.002, 500
        limiter = await start(RedisAddress(port=proxy.port))
        shared = 0
        for at in range(60):
            found = await decide(limiter, limit, prompt_tokens=100)
            assert isinstance(found, Reservation)
            shared += not found.degraded
            if at % 10 == 5:
                proxy.reset()
            limiter.settle(found, Costs(prompt_tokens=7))
            if at % 10 == 7:
                await eventually(lambda: limiter.connections.up)
        await eventually(lambda: limiter.connections.up and not limiter._settlements)
        found = await decide(limiter, limit)
        assert isinstance(found, Reservation)
        assert found.statuses[0].remaining == 10**6 - 60 * 7
        assert 20 < shared <= 60
        await limiter.stop()


async def test_r11_a_full_store_is_reported_once_until_there_is_room(own_redis: RedisServer, start: LimiterStarter) -> None:
    reports: list[str] = []
    limiter = await start(own_redis.address, reports)
    assert not (await decide(limiter)).degraded
    await run_command(own_redis.address, "CONFIG", "SET", "maxmemory", "1")
    assert (await decide(limiter)).degraded
    assert limiter.connections.errors["oom"] == 1
    await asyncio.sleep(1.5)
    assert (limiter.connections.up, len(reports)) == (False, 1)
    assert "OOM" in reports[0]
    await run_command(own_redis.address, "CONFIG", "SET", "maxmemory", "0")
    await eventually(lambda: limiter.connections.up)
    found = await decide(limiter)
    assert isinstance(found, Reservation)
    assert found.statuses[0].remaining == PLENTY.amount - 3  # limits were not reset, and the call during the outage is counted


async def test_r12_a_busy_script_is_an_outage_until_it_ends(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address)
    assert not (await decide(limiter)).degraded
    limiter.connections._connections["caller"]._timeout_s = 0.3
    await run_command(own_redis.address, "CONFIG", "SET", "busy-reply-threshold", "100")
    spin = "local n = 0 while redis.call('TIME')[1] * 1 < tonumber(ARGV[1]) do n = n + 1 end return n"
    other = await connect(own_redis.address, lambda: None)
    busy = asyncio.create_task(run_command(own_redis.address, "EVAL", spin, 0, int(time.time()) + 50))
    while not (await decide(limiter)).degraded:
        pass
    for _ in range(200):
        assert (await decide(limiter)).degraded
    assert not busy.done()  # 200 waits of 0.3 s would be longer than the script
    await other.execute("SCRIPT", "KILL")
    other.abort()
    with pytest.raises(hiredis.ReplyError, match="killed"):
        await busy
    limiter.connections._connections["caller"]._timeout_s = DECISION_TIMEOUT_S
    await eventually(lambda: limiter.connections.up)
    assert not (await decide(limiter)).degraded


async def test_r13_five_hundred_callers_share_one_command_and_one_timeout(own_redis: RedisServer, start: LimiterStarter) -> None:
    limiter = await start(own_redis.address)
    before, began = limiter.connections.commands, time.monotonic()
    found = await asyncio.gather(*(decide(limiter) for _ in range(500)))
    assert not any(one.degraded for one in found)
    assert limiter.connections.commands - before <= 2 + time.monotonic() - began  # and heartbeats
    limiter.connections._connections["caller"]._timeout_s = 0.5
    own_redis.freeze()
    began = time.monotonic()
    found = await asyncio.gather(*(decide(limiter) for _ in range(500)))
    assert time.monotonic() - began < 60  # 500 timeouts would take minutes
    assert all(one.degraded for one in found)
    assert limiter.connections.errors == {"deadline": 1}


async def test_r15_a_clock_set_back_reopens_no_window(own_redis: RedisServer) -> None:
    """Run the script with a clock that the test sets."""
    script = ADMIT.replace("redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')")
    assert script != ADMIT
    limit = Limit("k", "requests", 50, "min")
    draw, now, slot = random.Random(5), 1_900_000_000 * US_PER_S, 0
    admitted: list[int] = []
    console = await connect(own_redis.address, lambda: None)
    for at in range(4000):
        now += draw.choice([0, US_PER_S, 5 * US_PER_S] * 150 + [-3600 * US_PER_S, -300 * US_PER_S, 300 * US_PER_S])
        await console.execute("HSET", "clock", "s", now // US_PER_S, "us", now % US_PER_S)
        keys, arguments = admit_args([PendingDecision([limit], Costs(), f"c{at}", object())], SettledSpend("me"), 30 * US_PER_S, NO_RUN)
        reply: list[Any] = (await console.execute("EVAL", script, len(keys), *keys, *arguments))[0]
        assert reply[3] >= slot  # the slot to charge never decreases
        slot = reply[3]
        if reply[0] == 1:
            admitted.append(slot)
    console.abort()
    assert len(admitted) > 100
    for at, first in enumerate(admitted):
        inside = [one for one in admitted[at:] if one <= first + limit.slots]
        assert len(inside) <= limit.amount


async def test_r16_a_rotated_password_is_read_again_without_a_restart(
    own_redis: RedisServer, start: LimiterStarter, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("first-password\n")
    file.chmod(0o600)
    await run_command(own_redis.address, "CONFIG", "SET", "requirepass", "first-password")
    reports: list[str] = []
    limiter = await start(RedisAddress(port=own_redis.port, secret=read_secret(file)), reports)
    assert limiter.connections.up
    keys = RedisKeyStore(RedisAddress(port=own_redis.port, secret=read_secret(file)))
    assert await keys.read_if_changed() is None
    second = RedisAddress(path=str(own_redis.socket), password="second-password")
    first = RedisAddress(path=str(own_redis.socket), password="first-password")
    await run_command(first, "CONFIG", "SET", "requirepass", "second-password")
    await run_command(second, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await eventually(lambda: not limiter.connections.up)
    await eventually(lambda: "wrongpass" in limiter.connections.errors)
    for _ in range(2):  # the first attempt fails, because its connection was closed
        with pytest.raises(StoreUnavailableError):
            await keys.read_if_changed()
    assert (await decide(limiter)).degraded
    file.write_text("second-password\n")
    await eventually(lambda: limiter.connections.up)
    assert not (await decide(limiter)).degraded
    await eventually(lambda: len(reports) == 2)
    assert "WRONGPASS" in reports[0]  # the cause, not only that the connection ended
    assert not any(word in line for line in reports for word in ("first-password", "second-password"))
    assert await keys.read_if_changed() is None
    await keys.close()


async def test_r16_minimal_rights_suffice_and_missing_rights_are_reported_once(own_redis: RedisServer, start: LimiterStarter) -> None:
    commands = (
        "evalsha eval script|load ping time set get del exists pexpire hget hset hmget hgetall hincrby hdel hscan "
        "zadd zcard zcount zscore zrangebyscore zrem zremrangebyscore"
    )
    rights = [f"+{command}" for command in commands.split()]
    await run_command(own_redis.address, "ACL", "SETUSER", "few", "on", ">s", "~lockgate:*", *rights)
    await run_command(own_redis.address, "ACL", "SETUSER", "fewer", "on", ">s", "~lockgate:*", "+ping", "+set", "+script|load")
    reports: list[str] = []
    few = await start(RedisAddress(path=str(own_redis.socket), user="few", password="s"), reports)
    limits = PLENTY, Limit("k", "concurrent", 3), Limit("k", "spend", 10**12, "month")
    found = await decide(few, *limits, spend=5)
    assert isinstance(found, Reservation)
    few.settle(found, Costs(spend=4))
    assert not found.degraded
    assert (reports, few.connections.errors) == ([], {})
    fewer = await start(RedisAddress(path=str(own_redis.socket), user="fewer", password="s"), reports)
    await asyncio.sleep(0.5)
    assert (fewer.connections.up, len(reports)) == (False, 1)
    assert "NOPERM" in reports[0]
    assert fewer.connections.errors.keys() == {"noperm"}


async def test_r16_a_store_at_its_client_limit_is_an_outage(own_redis: RedisServer, start: LimiterStarter) -> None:
    reports: list[str] = []
    first = await start(own_redis.address)
    await run_command(own_redis.address, "CONFIG", "SET", "maxclients", "1")
    second = await start(own_redis.address, reports)
    assert (first.connections.up, second.connections.up) == (True, False)
    assert (await decide(second)).degraded
    await first.stop()
    await eventually(lambda: second.connections.up)
    await eventually(lambda: len(reports) == 2)


async def test_r16_certificates_are_verified_again_on_each_connect(own_redis: RedisServer, start: LimiterStarter, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    for fault in ("good", "expired", "wrong_host", "self_signed"):
        reports: list[str] = []
        async with ToxicProxy(own_redis.port, tls=certificates.server_context(fault)) as proxy:  # type: ignore[arg-type]
            known = await start(RedisAddress(port=proxy.port, tls=True, ca=str(certificates.ca)), reports)
            assert (known.connections.up, len(reports)) == (fault == "good", int(fault != "good")), fault
            assert (await decide(known)).degraded is (fault != "good")
            unknown = await start(RedisAddress(port=proxy.port, tls=True), reports)
            assert not unknown.connections.up
            assert "certificate" in reports[-1].lower()
            keys = RedisKeyStore(RedisAddress(port=proxy.port, tls=True, ca=str(certificates.ca)))
            if fault == "good":
                assert await keys.read_if_changed() is None
            else:
                said = await why_away(keys)
                assert "certificate" in said.lower() or "ssl" in said.lower(), said
            await keys.close()
            await known.stop()
            await unknown.stop()


async def why_away(keys: RedisKeyStore) -> str:
    """Return the reason why the store is unavailable. Timeouts are retried, because a busy machine also causes them."""
    said = "Timeout"
    for _ in range(5):
        if "Timeout" in said:
            with pytest.raises(StoreUnavailableError) as away:
                await keys.read_if_changed()
            said = str(away.value)
    return said


async def test_a_server_too_old_for_the_scripts_is_reported_once(start: LimiterStarter) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        text = b"# Server\r\nredis_version:4.0.14\r\n"
        writer.write(b"$%d\r\n%s\r\n" % (len(text), text))
        await reader.read(1000)
        writer.close()

    reports: list[str] = []
    async with serve_streams(old) as server:
        limiter = await start(RedisAddress(port=server.port), reports)
        await asyncio.sleep(0.4)
        assert (limiter.connections.up, len(reports)) == (False, 1)
        assert "Redis 4.0 is too old: use 5.0 or later" in reports[0]
        assert (await decide(limiter)).degraded
        await limiter.stop()


@pytest.mark.parametrize("key", ["members_key", "member_info_key"])
async def test_a_membership_key_of_another_type_is_rebuilt(own_redis: RedisServer, start: LimiterStarter, key: str) -> None:
    reports: list[str] = []
    address = RedisAddress(port=own_redis.port)
    limiter = await start(address, reports)
    name = getattr(script_args, key)("caller")
    for rubbish in ("SET", "RPUSH"):
        await run_command(address, "DEL", name)
        await run_command(address, rubbish, name, "x")
        async with asyncio.timeout(10):
            while await run_command(address, "TYPE", name) not in ("zset", "hash", b"zset", b"hash"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found = await decide(limiter)
        assert not found.degraded
    assert limiter.members == 1

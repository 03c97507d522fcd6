"""Failover of a master, migration of hash slots, and loss of cluster nodes: limits hold and are shared again within about a second."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.config.key import KeyConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.config.redis_address import RedisAddress
from gateway.config.secret import Secret
from gateway.keys.redis_store import RedisKeyStore
from gateway.keys.runtime_keys import RuntimeKeys
from gateway.store.limit import NO_COSTS, US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.outage_log import OutageLog
from gateway.store.redis import LEASE_S, RedisLimiter
from gateway.store.topology import HASH_TAGS, hash_slot
from tests.flows.live import eventually
from tests.running import Figure
from tests.support.redis_fixtures import LimiterStarter
from tests.support.redis_topologies import ClusterServers, SentinelServers, run_command, serve_until_done

_ids = itertools.count()
CALLER = Limit("key:a", "requests", 400, "s"), Limit("key:a", "concurrent", 30)
TARGET = Limit("provider:p", "requests", 300, "s", side="target"), Limit("provider:p", "concurrent", 20, side="target")


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Return a cluster that the test may break."""
    yield from serve_until_done(ClusterServers(tmp_path_factory.mktemp("own-cluster")))


@pytest.fixture
def replicated_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Return a cluster of six nodes that the test may break."""
    yield from serve_until_done(ClusterServers(tmp_path_factory.mktemp("six-nodes"), with_replicas=True, node_timeout_s=3.0))


@pytest.fixture
def own_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelServers]:
    """Return a master with a replica that the test may break."""
    yield from serve_until_done(SentinelServers(tmp_path_factory.mktemp("own-sentinel"), gone_after=2.0))


async def admit(limiter: RedisLimiter, *limits: Limit, **costs: int) -> Reservation | Refusal:
    """Request one decision."""
    return await limiter.admit(limits, Costs(**costs), f"t{next(_ids)}")


def test_hash_slots_follow_the_specification() -> None:
    assert hash_slot("123456789") == 0x31C3  # CRC16/XMODEM of this text, from the Redis Cluster specification
    assert len({hash_slot(tag) for tag in HASH_TAGS}) == len(HASH_TAGS)


async def test_r8_a_failover_is_followed(own_sentinel: SentinelServers, start: LimiterStarter) -> None:
    reports: list[str] = []
    limiter = await start(own_sentinel.address, reports)
    limit, calls = Limit("k", "tokens", 1000, "day"), Limit("k", "concurrent", 5)
    held = await admit(limiter, limit, calls, prompt_tokens=100)
    assert isinstance(held, Reservation)
    assert not held.degraded
    old = await own_sentinel.master()
    await own_sentinel.copied()
    old.kill()
    await eventually(lambda: not limiter.connections.up)
    during = await admit(limiter, limit, prompt_tokens=50)
    assert isinstance(during, Reservation)
    assert during.degraded
    limiter.settle(held, Costs(prompt_tokens=70))
    limiter.settle(during, Costs(prompt_tokens=50))
    await eventually(lambda: limiter.connections.up, 60)
    assert await own_sentinel.master() is not old
    found = await admit(limiter, limit, calls)
    assert isinstance(found, Reservation)
    assert not found.degraded
    assert [one.remaining for one in found.statuses] == [1000 - 70 - 50, 4]
    await eventually(lambda: len(reports) == 2)


async def test_sentinels_may_have_a_password_of_their_own(tmp_path: Path, start: LimiterStarter) -> None:
    servers = SentinelServers(tmp_path, "of-the-sentinels")
    try:
        await servers.form()
        reports: list[str] = []
        without = await start(servers.address, reports)
        assert not without.connections.up
        assert ["NOAUTH" in line or "Authentication required" in line or "No master found" in line for line in reports] == [True]
        address = msgspec.structs.replace(servers.address, sentinel_secret=Secret("of-the-sentinels"))
        assert (await start(address)).connections.up
        keys = RedisKeyStore(address)
        assert await keys.read_if_changed() is None
        await keys.close()
    finally:
        servers.kill()


async def test_r7_a_replica_is_rejected(own_sentinel: SentinelServers, start: LimiterStarter) -> None:
    reports: list[str] = []
    limiter = await start(own_sentinel.servers[1].address, reports)
    await asyncio.sleep(0.5)
    assert not limiter.connections.up
    assert ["is a replica: use its master" in line for line in reports] == [True]
    await run_command(own_sentinel.servers[1].address, "REPLICAOF", "NO", "ONE")
    await eventually(lambda: limiter.connections.up)


async def test_r7_a_master_that_becomes_a_replica_is_left_after_its_first_reply(
    own_sentinel: SentinelServers, start: LimiterStarter
) -> None:
    limiter = await start(own_sentinel.servers[0].address)
    limit = Limit("k", "requests", 1000, "min")
    assert not (await admit(limiter, limit)).degraded
    await run_command(own_sentinel.servers[0].address, "REPLICAOF", "127.0.0.1", own_sentinel.servers[1].port)
    found = await admit(limiter, limit)
    assert isinstance(found, Reservation)
    assert found.degraded
    assert limiter.connections.errors["readonly"] == 1


@pytest.mark.parametrize("servers", ["redis", "sentinel", "cluster"], indirect=True)
async def test_run_time_keys_are_shared_in_every_topology(servers: RedisAddress | ClusterServers | SentinelServers) -> None:
    if not isinstance(servers, RedisAddress):
        await servers.empty()
        address = servers.address
    else:
        await run_command(servers, "FLUSHALL")
        address = servers
    told: list[str] = []
    one, other = [
        RuntimeKeys(RedisKeyStore(address), lambda: told.append("changed"), OutageLog(told.append).for_subject("keys")) for _ in range(2)
    ]
    await one.start()
    await other.start()
    key = KeyConfig(name="new", hash="sha256:" + "1" * 64, limits=LimitsConfig(requests=(Rate(5, "min"),)), models=("m",))
    assert await one.add(key, "lg-abc...wxyz") is not None
    assert await other.add(key, "lg-abc...wxyz") is None  # the name is taken in all processes
    await eventually(lambda: other.entries == [key])
    assert await other.revoke("new")
    assert not await one.revoke("new")
    await eventually(lambda: one.entries == [])
    assert set(told) == {"changed"}
    for each in (one, other):
        await each.stop()


class Load:
    """Callers on both sides of limiters, with a record of the decisions."""

    def __init__(self) -> None:
        self.shared: dict[str, list[int]] = {"caller": [], "target": []}
        self.also: dict[str, tuple[Limit, ...]] = {"caller": (), "target": ()}
        """Limits that are charged with the others."""
        self.admitted = Counter[str]()
        self.running = True
        self.decisions = 0
        self.degraded = 0

    async def call(self, limiter: RedisLimiter) -> None:
        """Reserve and settle until stopped."""
        while self.running:
            for limits in (CALLER, TARGET):
                found = await limiter.admit((*limits, *self.also[limits[0].side]), Costs(), f"l{next(_ids)}")
                self.decisions += 1
                self.degraded += found.degraded
                if isinstance(found, Reservation):
                    self.admitted[limits[0].side] += 1
                    if not found.degraded:
                        self.shared[limits[0].side].append(found.decided_at)
                    await asyncio.sleep(0.002)
                    limiter.settle(found, Costs())
            await asyncio.sleep(0.003)

    def most(self, side: str) -> int:
        """Return the largest number of admissions in one second."""
        times, start, most = sorted(self.shared[side]), 0, 0
        for at, decided in enumerate(times):
            while times[start] <= decided - US_PER_S:
                start += 1
            most = max(most, at - start + 1)
        return most


async def test_r18_slots_migrated_under_load_cause_no_crossslot_and_no_excess(
    own_cluster: ClusterServers, start: LimiterStarter
) -> None:
    limiter = await start(own_cluster.address)
    load = Load()
    callers = [asyncio.create_task(load.call(limiter)) for _ in range(8)]
    await asyncio.sleep(0.5)
    for tag in ("caller", "target", "caller"):
        await own_cluster.move(tag)
        await asyncio.sleep(1.2)  # longer than a refusal is repeated, and than the heartbeat interval
    load.running = False
    await asyncio.gather(*callers)
    assert limiter.connections.errors.get("crossslot", 0) == 0
    assert {"moved", "ask", "tryagain"} & limiter.connections.errors.keys()
    for limits in (CALLER, TARGET):
        assert 50 < load.most(limits[0].side) <= limits[0].amount
    for limits in (CALLER, TARGET):
        await without_leases(limiter, limits[1])


async def shared(limiter: RedisLimiter, limit: Limit) -> Reservation:
    """Return a decision of the store, once it is available and all settlements are sent."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        await eventually(lambda: limiter.connections.up and not limiter._settlements, 60)
        found = await admit(limiter, limit)
        assert isinstance(found, Reservation)
        if not found.degraded:
            return found
        limiter.settle(found, NO_COSTS)
    raise AssertionError("the store was not asked again")


@pytest.mark.prove
async def test_r7_a_dead_node_is_an_outage_until_it_restarts(own_cluster: ClusterServers, start: LimiterStarter) -> None:
    reports: list[str] = []
    limiter = await start(own_cluster.address, reports)
    limit = Limit("k", "requests", 1000, "h")
    assert not (await admit(limiter, limit)).degraded
    node = await own_cluster.owner("caller")
    node.kill()
    await eventually(lambda: not limiter.connections.up)
    assert (await admit(limiter, limit)).degraded
    node.start()
    began = time.monotonic()
    await eventually(lambda: limiter.connections.up, 60)
    assert time.monotonic() - began < 60
    assert not (await admit(limiter, limit)).degraded
    await eventually(lambda: len(reports) == 2)


@pytest.mark.prove
@pytest.mark.timeout(180)
async def test_r18_a_killed_master_of_six_nodes_admits_nothing_beyond_the_limits_and_loses_no_call(
    replicated_cluster: ClusterServers, start: LimiterStarter, figure: Figure
) -> None:
    cluster = replicated_cluster
    limiters = [await start(cluster.address) for _ in range(2)]
    load = Load()
    daily = {side: Limit(f"daily:{side}", "requests", 1_000_000, "day", side=side) for side in ("caller", "target")}
    load.also = {side: (limit,) for side, limit in daily.items()}
    callers = [asyncio.create_task(load.call(limiters[number % 2])) for number in range(8)]
    await asyncio.sleep(1.0)
    for tag in ("caller", "target"):
        await cluster.move(tag)
        await asyncio.sleep(1.2)
    killed = await cluster.owner("caller")
    killed.kill()
    began = time.monotonic()
    await eventually(lambda: not all(limiter.connections.up for limiter in limiters), 60)
    await eventually(lambda: all(limiter.connections.up for limiter in limiters), 120)
    outage = time.monotonic() - began
    await asyncio.sleep(2.0)  # under load with the promoted replica
    load.running = False
    await asyncio.gather(*callers)
    assert await cluster.owner("caller") in cluster.replicas
    figure("until the promoted replica was used", outage, "s")
    figure("decisions", load.decisions, f"of which {load.degraded} without the store")
    for limits in (CALLER, TARGET):
        figure(f"most {limits[0].side} admissions in a second", load.most(limits[0].side), f"of {limits[0].amount}")
        assert 50 < load.most(limits[0].side) <= limits[0].amount
        await without_leases(limiters[0], limits[1])
    for side, limit in daily.items():
        for limiter in limiters:
            limiter.settle(await shared(limiter, limit), NO_COSTS)
        await eventually(lambda: not any(limiter._settlements for limiter in limiters))
        found = await shared(limiters[0], limit)
        counted = limit.amount - found.statuses[0].remaining - 1
        figure(f"{side} admissions that the store has not counted", load.admitted[side] - counted, f"of {load.admitted[side]}")
        assert counted == load.admitted[side]  # although the replica lacked the last writes


async def without_leases(limiter: RedisLimiter, limit: Limit) -> None:
    """Wait until no call is counted as in flight. A call whose release the replica did not get counts until its lease ends."""
    deadline = time.monotonic() + LEASE_S + 30
    while True:
        found = await shared(limiter, limit)
        left = found.statuses[0].remaining
        limiter.settle(found, Costs())
        if left == limit.amount - 1:
            return
        assert time.monotonic() < deadline, f"{limit} still has {limit.amount - 1 - left} calls in flight"
        await asyncio.sleep(0.5)

"""Fleet metrics: the counters of all instances that share a Redis, none of which is lost, doubled or decreased."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.metrics import Metrics, text
from gateway.metrics.snapshot import Snapshot
from gateway.store.redis_client import open_client
from gateway.telemetry.fleet import Fleet, FleetError
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.support.load import TOKENS, configuration
from tests.support.metrics import finished_call, record
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command

# instances of these tests publish only on request
NEVER_S = 3600.0
OPENMETRICS = {"accept": "application/openmetrics-text"}


def instance(redis: RedisServer, wrap: Callable[[Any], Any] = lambda client: client) -> tuple[Metrics, Fleet]:
    """Return the metrics of an instance and its fleet, which publishes only on request."""
    metrics = Metrics(["smart"], ["a/x"], {"a": "mistral"})
    return metrics, Fleet(wrap(open_client(redis.address, "metrics")), metrics, NEVER_S)


def requests(snapshot: Snapshot) -> int:
    """Return the number of calls of a snapshot; counter and histogram must agree."""
    counted = sum(cells[0] for cells in snapshot.get("lockgate_requests", {}).values())
    assert counted == sum(sum(cells[:-1]) for cells in snapshot.get("duration", {}).values())
    return counted


def record_calls(metrics: Metrics, count: int) -> None:
    """Record `count` calls."""
    for _ in range(count):
        record(metrics, finished_call(), 0.1)


async def test_every_instance_shows_the_counts_of_all(redis: RedisServer) -> None:
    (one, first), (other, second) = instance(redis), instance(redis)
    one.in_flight, other.in_flight = 2, 3
    one.gauge("lockgate_event_loop_lag_seconds", lambda: {(): 0.25})
    record_calls(one, 3)
    record_calls(other, 4)
    await first.publish()
    for fleet in (second, first):
        found = await fleet.merged_snapshot()
        assert requests(found) == 7
        assert found["lockgate_requests_in_flight"][()] == [5_000_000]
        assert found["lockgate_event_loop_lag_seconds"][()] == [250_000]
        assert b"lockgate_key_cost_usd_total" in text.classic(found)
    await first.stop()
    await second.stop()


async def test_counts_of_an_instance_stay_after_it_has_ended(redis: RedisServer) -> None:
    one, first = instance(redis)
    one.in_flight = 1
    record_calls(one, 3)
    await first.stop()
    again, second = instance(redis)
    record_calls(again, 1)
    found = await second.merged_snapshot()
    assert requests(found) == 4
    assert found["lockgate_requests_in_flight"][()] == [0]
    await second.stop()


async def test_everything_is_published_again_after_the_store_lost_its_data(redis: RedisServer) -> None:
    one, fleet = instance(redis)
    record_calls(one, 5)
    await fleet.publish()
    client = open_client(redis.address, "metrics")
    await client.flushall()
    await client.aclose()
    record_calls(one, 1)
    assert requests(await fleet.merged_snapshot()) == 6
    record_calls(one, 1)
    assert requests(await fleet.merged_snapshot()) == 7
    await fleet.stop()


class ReplyLosingClient:
    """Redis client that loses the replies of the next `lose` scripts, after Redis has run them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.lose = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def eval(self, *arguments: Any) -> Any:
        """Run the script and lose its reply."""
        reply = await self._client.eval(*arguments)
        if self.lose:
            self.lose -= 1
            raise ConnectionError("lost")
        return reply


@pytest.mark.parametrize("name", ["totals", "numbers", "gauges"])
@pytest.mark.parametrize("rubbish", ["SET", "RPUSH"])
async def test_key_of_another_type_is_rebuilt_from_all_counts(redis: RedisServer, name: str, rubbish: str) -> None:
    (one, first), (other, second) = instance(redis), instance(redis)
    one.in_flight = 2
    record_calls(one, 3)
    record_calls(other, 4)
    await first.publish()
    await second.publish()
    key = f"lockgate:{{metrics}}:{name}"
    await run_command(redis.address, "DEL", key)
    await run_command(redis.address, rubbish, key, "x")
    record_calls(one, 1)
    record_calls(other, 1)
    await first.publish()
    await second.publish()
    found = await first.merged_snapshot()
    assert requests(found) == 9
    assert found["lockgate_requests_in_flight"][()] == [2_000_000]
    await first.stop()
    await second.stop()


async def test_lost_reply_does_not_count_twice(redis: RedisServer) -> None:
    clients: list[ReplyLosingClient] = []

    def wrap(client: Any) -> ReplyLosingClient:
        clients.append(ReplyLosingClient(client))
        return clients[0]

    one, fleet = instance(redis, wrap)
    for round in range(6):
        record_calls(one, 2)
        clients[0].lose = round % 3
        for _ in range(round % 3):
            with pytest.raises(FleetError):
                await fleet.publish()
            record_calls(one, 1)
        assert requests(await fleet.merged_snapshot()) == sum(one.counts["lockgate_requests"].values())
    await fleet.stop()


async def test_no_count_is_lost_while_the_store_is_unavailable(redis: RedisServer) -> None:
    one, fleet = instance(redis)
    record_calls(one, 2)
    await fleet.publish()
    redis.kill()
    record_calls(one, 2)
    for _ in range(3):
        with pytest.raises(FleetError):
            await fleet.merged_snapshot()
    redis.start()
    assert requests(await fleet.merged_snapshot()) == 4
    await fleet.stop()


async def test_gauges_that_are_read_from_the_store_are_refreshed_before_a_publication(redis: RedisServer) -> None:
    fleet = instance(redis)[1]
    fleet._interval_s = 0.01
    refreshed = asyncio.Event()

    async def refresh() -> None:
        refreshed.set()

    fleet.refresh = refresh
    await fleet.start()
    await asyncio.wait_for(refreshed.wait(), 60)
    await fleet.stop()


async def test_admin_listener_shows_the_fleet_with_scope_fleet(redis: RedisServer) -> None:
    async with (
        FaultUpstream() as up,
        live(configuration(up.base_url, redis.url)) as one,
        live(configuration(up.base_url, redis.url)) as two,
    ):
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES,
            trust_env=False, timeout=30, headers={"authorization": f"Bearer {TOKENS['search']}"}
        ) as client:
            for gateway, calls in ((one, 3), (two, 4)):
                for _ in range(calls):
                    assert (await client.post(gateway.base_url + "/chat/completions", json=body)).status_code == 200
            own = (await client.get(one.admin_url + "/metrics")).text
            all_calls = 'lockgate_key_requests_total{key="search",status="2xx",team="none"} 7.0'
            async with asyncio.timeout(60):
                fleet = await client.get(one.admin_url + "/metrics?scope=fleet", headers=OPENMETRICS)
                while all_calls not in fleet.text:  # an instance publishes its counts every second
                    await asyncio.sleep(0.1)
                    fleet = await client.get(one.admin_url + "/metrics?scope=fleet", headers=OPENMETRICS)
            wrong = await client.get(one.admin_url + "/metrics?scope=all")
            redis.kill()
            unavailable = await client.get(one.admin_url + "/metrics?scope=fleet")
            alone = await client.get(one.admin_url + "/metrics")
    assert 'lockgate_key_requests_total{key="search",status="2xx",team="none"} 3.0' in own
    assert fleet.headers["content-type"].startswith("application/openmetrics-text")
    assert "lockgate_workers 2.0" in fleet.text
    assert {family.name for family in text_string_to_metric_families(fleet.text)} >= {
        "lockgate_requests",
        "gen_ai_client_token_usage",
    }
    assert wrong.status_code == 400
    assert (unavailable.status_code, unavailable.json()["error"]["code"]) == (503, "store_unavailable")
    assert alone.status_code == 200

"""Instances that share a Redis show their counters as one: no count lost, none doubled, none that goes down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
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
from tests.metrics.load import TOKENS, configuration
from tests.metrics.test_recording import call
from tests.support.redis import RedisServer

NEVER = 3600.0


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def instance(redis: RedisServer, wrap: Callable[[Any], Any] = lambda client: client) -> tuple[Metrics, Fleet]:
    """One instance that publishes when it is told to."""
    one = Metrics(["smart"], ["a/x"], {"a": "mistral"})
    return one, Fleet(wrap(open_client(redis.address, "metrics")), one, NEVER)


def requests(snapshot: Snapshot) -> int:
    """Calls of a snapshot, by the counter and by the histogram alike."""
    counted = sum(cells[0] for cells in snapshot.get("lockgate_requests", {}).values())
    assert counted == sum(sum(cells[:-1]) for cells in snapshot.get("duration", {}).values())
    return counted


def record(one: Metrics, calls: int) -> None:
    """So many calls."""
    for _ in range(calls):
        ended = call()
        one.record(ended, ended.started + 0.1)


async def test_any_instance_shows_all_of_them(redis: RedisServer) -> None:
    (one, first), (other, second) = instance(redis), instance(redis)
    one.in_flight, other.in_flight = 2, 3
    one.gauge("lockgate_event_loop_lag_seconds", lambda: {(): 0.25})
    record(one, 3)
    record(other, 4)
    await first.publish()
    for fleet in (second, first):
        found = await fleet.whole()
        assert requests(found) == 7
        assert found["lockgate_requests_in_flight"][()] == [5_000_000]
        assert found["lockgate_event_loop_lag_seconds"][()] == [250_000]
        assert b"lockgate_key_cost_usd_total" in text.classic(found)
    await first.stop()
    await second.stop()


async def test_what_an_instance_counted_stays_when_it_ends(redis: RedisServer) -> None:
    one, first = instance(redis)
    one.in_flight = 1
    record(one, 3)
    await first.stop()
    again, second = instance(redis)
    record(again, 1)
    found = await second.whole()
    assert requests(found) == 4
    assert found["lockgate_requests_in_flight"][()] == [0]
    await second.stop()


async def test_an_emptied_store_is_told_everything_anew(redis: RedisServer) -> None:
    one, fleet = instance(redis)
    record(one, 5)
    await fleet.publish()
    client = open_client(redis.address, "metrics")
    await client.flushall()
    await client.aclose()
    record(one, 1)
    assert requests(await fleet.whole()) == 6
    record(one, 1)
    assert requests(await fleet.whole()) == 7
    await fleet.stop()


class LostAnswers:
    """A client some of whose answers are lost after the store did its work."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.lose = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def eval(self, *arguments: Any) -> Any:
        """Run, and lose the answer."""
        answer = await self._client.eval(*arguments)
        if self.lose:
            self.lose -= 1
            raise ConnectionError("lost")
        return answer


async def test_a_lost_answer_doubles_nothing(redis: RedisServer) -> None:
    clients: list[LostAnswers] = []

    def wrap(client: Any) -> LostAnswers:
        clients.append(LostAnswers(client))
        return clients[0]

    one, fleet = instance(redis, wrap)
    for round in range(6):
        record(one, 2)
        clients[0].lose = round % 3
        for _ in range(round % 3):
            with pytest.raises(FleetError):
                await fleet.publish()
            record(one, 1)
        assert requests(await fleet.whole()) == sum(one.counts["lockgate_requests"].values())
    await fleet.stop()


async def test_nothing_is_lost_while_the_store_is_away(redis: RedisServer) -> None:
    one, fleet = instance(redis)
    record(one, 2)
    await fleet.publish()
    redis.kill()
    record(one, 2)
    for _ in range(3):
        with pytest.raises(FleetError):
            await fleet.whole()
    redis.start()
    assert requests(await fleet.whole()) == 4
    await fleet.stop()


async def test_two_gateways_answer_for_each_other_on_their_admin_listeners(redis: RedisServer) -> None:
    async with (
        FaultUpstream() as up,
        live(configuration(up.base_url, redis.url)) as one,
        live(configuration(up.base_url, redis.url)) as two,
    ):
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        async with httpx.AsyncClient(trust_env=False, timeout=30, headers={"authorization": f"Bearer {TOKENS['search']}"}) as client:
            for gateway, calls in ((one, 3), (two, 4)):
                for _ in range(calls):
                    assert (await client.post(gateway.base_url + "/chat/completions", json=body)).status_code == 200
            await asyncio.sleep(1.5)
            own = (await client.get(one.admin_url + "/metrics")).text
            fleet = await client.get(one.admin_url + "/metrics?scope=fleet", headers={"accept": "application/openmetrics-text"})
            wrong = await client.get(one.admin_url + "/metrics?scope=all")
            redis.kill()
            away = await client.get(one.admin_url + "/metrics?scope=fleet")
            alone = await client.get(one.admin_url + "/metrics")
    assert 'lockgate_key_requests_total{key="search"} 3.0' in own
    assert 'lockgate_key_requests_total{key="search"} 7.0' in fleet.text
    assert fleet.headers["content-type"].startswith("application/openmetrics-text")
    assert "lockgate_workers 2.0" in fleet.text
    assert {family.name for family in text_string_to_metric_families(fleet.text)} >= {"lockgate_requests", "gen_ai_client_token_usage"}
    assert wrong.status_code == 400
    assert (away.status_code, away.json()["error"]["code"]) == (503, "store_unavailable")
    assert alone.status_code == 200

"""What an operator sees of targets, and how processes agree on them: admin listener, command, gauges, probes, workers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.__main__ import cli
from tests.faults.behaviours import status
from tests.faults.client import chat
from tests.faults.upstream_server import HANG, FaultUpstream, canned, play
from tests.flows.live import Live, eventually, live
from tests.running import RunningGateway
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis

__all__ = ["own_redis"]

PATH = "/v1/chat/completions"
ADMIN_KEY = "admin-key-0123456789abcdef"


def configuration(up: FaultUpstream, other: FaultUpstream, **more: Any) -> str:
    """An order of two; `more` are settings of the first provider."""
    providers = {
        "a": {"type": "openai-compatible", "base_url": up.base_url, **more},
        "b": {"type": "openai-compatible", "base_url": other.base_url},
    }
    key_hash = "sha256:" + hashlib.sha256(ADMIN_KEY.encode()).hexdigest()
    admin = {"listen": "127.0.0.1:8081", "key_hash": key_hash, "metrics": "open"}
    return json.dumps({"admin": admin, "providers": providers, "models": {"m": ["a/mock", "b/mock"]}})


async def call(client: httpx.AsyncClient, gateway: Live | RunningGateway) -> httpx.Response:
    """One chat."""
    return await client.post(gateway.base_url + "/chat/completions", json=chat())


async def test_the_admin_listener_shows_each_target_to_who_has_its_key(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on(PATH, status(500))
    async with live(configuration(up, other, cooldown={"failures": 2})) as gateway:
        assert (await client.get(gateway.admin_url + "/admin/targets")).status_code == 401
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        before = (await client.get(gateway.admin_url + "/admin/targets", headers=headers)).json()["targets"]
        assert [(one["target"], one["state"]) for one in before] == [("a/mock", "live"), ("b/mock", "live")]
        for _ in range(3):
            assert (await call(client, gateway)).status_code == 200
        a, b = (await client.get(gateway.admin_url + "/admin/targets", headers=headers)).json()["targets"]
        assert (a["state"], a["reason"], a["failures_in_a_row"], a["last_failure"]) == ("cooling", "failures", 2, "server_error")
        assert 25 < a["cooling_seconds"] <= 30
        assert a["cooling_until"].endswith("+00:00")
        assert (b["state"], b["failures_in_a_row"], b["in_flight"]) == ("live", 0, 0)
        assert b["latency_ms"] > 0


async def test_the_command_shows_them_in_a_table_and_as_json(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.on(PATH, status(429, "slow down", {"retry-after": "50"}))
    async with live(configuration(up, other)) as gateway:
        await call(client, gateway)
        arguments = ["targets", "--admin", gateway.admin_url]
        monkeypatch.delenv("LOCKGATE_ADMIN_KEY", raising=False)
        refused = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        assert refused.exit_code == 1
        assert "LOCKGATE_ADMIN_KEY" in refused.output
        monkeypatch.setenv("LOCKGATE_ADMIN_KEY", ADMIN_KEY)
        shown = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        lines = shown.output.splitlines()
        assert lines[0].split()[:4] == ["TARGET", "STATE", "UNTIL", "WHY"]
        assert lines[1].split()[:2] == ["a/mock", "cooling"]
        assert "rate_limit" in lines[1]
        assert lines[2].split()[:2] == ["b/mock", "live"]
        found = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--json"])
        assert [one["target"] for one in json.loads(found.output)["targets"]] == ["a/mock", "b/mock"]


async def test_the_state_of_each_target_is_a_metric(up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(PATH, status(500))
    async with live(configuration(up, other, cooldown={"failures": 1, "time": "3s"})) as gateway:
        await call(client, gateway)

        async def scraped() -> str:
            return (await client.get(gateway.admin_url + "/metrics")).text

        text = await scraped()
        assert 'lockgate_target_state{state="cooling",target="a/mock"} 1' in text
        assert 'lockgate_target_state{state="live",target="a/mock"} 0' in text
        assert 'lockgate_target_state{state="live",target="b/mock"} 1' in text
        assert 'lockgate_target_in_flight{target="b/mock"} 0' in text
        assert 'lockgate_target_waiting{target="b/mock"} 0' in text
        assert 'lockgate_cooldowns_total{reason="failures",target="a/mock"} 1' in text
        assert 'lockgate_fallbacks_total{model="m"} 1' in text
        for _ in range(100):
            if 'lockgate_target_state{state="probing",target="a/mock"} 1' in await scraped():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(await scraped())


async def test_a_probe_finds_a_provider_that_is_down_and_brings_it_back(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on("/v1/models", status(503))
    more = {"probe": {"path": "/models", "every": "50ms"}, "cooldown": {"failures": 2, "time": "4m"}, "api_key": "${KEY}"}
    async with live(configuration(up, other, **more), environ={"KEY": "sk-probe"}) as gateway:
        health = gateway.gateway.health
        await eventually(lambda: not health.is_live("a/mock"))
        assert (await call(client, gateway)).headers["x-gateway-target"] == "b/mock"
        probe = up.requests[0]
        assert (probe.method, probe.path, probe.header("authorization"), probe.body) == ("GET", "/v1/models", "Bearer sk-probe", b"")
        up.on("/v1/models", canned(b'{"data":[]}'))
        await eventually(lambda: health.is_live("a/mock"))
        assert (await call(client, gateway)).headers["x-gateway-target"] == "a/mock"
    sent = len(up.requests)
    await asyncio.sleep(0.2)
    assert len(up.requests) == sent


async def test_a_probe_that_is_refused_tells_of_a_provider_that_works(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on("/v1/models", status(401))
    async with live(configuration(up, other, probe={"path": "/models", "every": "50ms"}, cooldown={"failures": 1})) as gateway:
        await eventually(lambda: len(up.requests) >= 4)
        assert (await call(client, gateway)).headers["x-gateway-target"] == "a/mock"


async def test_a_probe_that_gets_no_answer_holds_up_the_next_for_a_second(up: FaultUpstream, other: FaultUpstream) -> None:
    up.on("/v1/models", play(HANG))
    async with live(configuration(up, other, probe={"path": "/models", "every": "50ms"}, cooldown={"failures": 2})) as gateway:
        await eventually(lambda: not gateway.gateway.health.is_live("a/mock"), within=8)
        up.on("/v1/models", canned(b"{}"))
        await eventually(lambda: gateway.gateway.health.is_live("a/mock"), within=8)


async def test_nobody_is_probed_unasked(up: FaultUpstream, other: FaultUpstream) -> None:
    async with live(configuration(up, other)):
        await asyncio.sleep(0.3)
    assert up.requests == []


async def test_u29_workers_and_gateways_share_what_cools_and_know_it_after_a_restart(
    up: FaultUpstream,
    other: FaultUpstream,
    own_redis: RedisServer,
    gateway: Callable[..., RunningGateway],
    client: httpx.AsyncClient,
) -> None:
    up.on(PATH, status(429, "slow down", {"retry-after": "120"}))
    config = json.loads(configuration(up, other)) | {"store": own_redis.url}
    del config["admin"]["key_hash"]
    text = json.dumps(config)
    both = [await asyncio.to_thread(gateway, text, {}, ("--workers", "2")), await asyncio.to_thread(gateway, text)]
    for one in both:
        await asyncio.to_thread(one.wait_ready)
    assert (await call(client, both[1])).status_code == 200

    async def seconds(one: RunningGateway) -> float:
        found = (await client.get(one.admin_url + "/admin/targets")).json()["targets"]
        return float(found[0]["cooling_seconds"] or 0)

    first = await seconds(both[1])
    assert 100 < first <= 120
    for _ in range(200):
        if await seconds(both[0]):
            break
        await asyncio.sleep(0.05)
    assert abs(await seconds(both[0]) - await seconds(both[1])) < 4
    answers = [await call(client, both[0]) for _ in range(10)]
    assert {answer.headers["x-gateway-target"] for answer in answers} == {"b/mock"}
    sent = len(up.requests)
    await asyncio.to_thread(both[1].stop)
    again = await asyncio.to_thread(gateway, text)
    await asyncio.to_thread(again.wait_ready)
    assert (await call(client, again)).headers["x-gateway-target"] == "b/mock"
    assert 0 < await seconds(again) <= first
    assert len(up.requests) == sent

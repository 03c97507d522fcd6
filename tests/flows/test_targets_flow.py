"""Health of targets: admin listener, command, metrics and probes, and cooldowns shared between processes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.commands.cli import cli
from tests.faults.behaviours import status
from tests.faults.upstream_server import HANG, FaultUpstream, canned, play
from tests.flows.conftest import post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.flows.processes import Start, start_ready, until
from tests.running import RunningGateway
from tests.support.redis import RedisServer

PATH = "/v1/chat/completions"
ADMIN_KEY = "admin-key-0123456789abcdef"


def configuration(up: FaultUpstream, other: FaultUpstream, **more: Any) -> str:
    """Return a configuration with two targets in order. `more` has settings of the first provider."""
    providers = {
        "a": {"type": "openai-compatible", "base_url": up.base_url, **more},
        "b": {"type": "openai-compatible", "base_url": other.base_url},
    }
    admin = {"listen": "127.0.0.1:8081", "key_hash": digest(ADMIN_KEY), "metrics": "open"}
    return json.dumps({"admin": admin, "providers": providers, "models": {"m": ["a/mock", "b/mock"]}})


async def call(client: httpx.AsyncClient, gateway: Live | RunningGateway) -> httpx.Response:
    """Send one chat call."""
    return await post_chat(client, gateway)


async def test_admin_targets_shows_each_target_and_requires_the_admin_key(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on(PATH, status(500))
    async with live(configuration(up, other, cooldown={"failures": 2})) as gateway:
        assert (await client.get(gateway.admin_url + "/admin/targets")).status_code == 401
        headers = bearer(ADMIN_KEY)
        before = (await client.get(gateway.admin_url + "/admin/targets", headers=headers)).json()["targets"]
        assert [(target["target"], target["state"]) for target in before] == [("a/mock", "live"), ("b/mock", "live")]
        for _ in range(3):
            assert (await call(client, gateway)).status_code == 200
        a, b = (await client.get(gateway.admin_url + "/admin/targets", headers=headers)).json()["targets"]
        assert (a["state"], a["reason"], a["failures_in_a_row"], a["last_failure"]) == ("cooling", "failures", 2, "server_error")
        assert 25 < a["cooling_seconds"] <= 30
        assert a["cooling_until"].endswith("+00:00")
        assert (b["state"], b["failures_in_a_row"], b["in_flight"]) == ("live", 0, 0)
        assert b["latency_ms"] > 0


async def test_targets_command_prints_a_table_and_json(
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
        as_json = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--json"])
        assert [target["target"] for target in json.loads(as_json.output)["targets"]] == ["a/mock", "b/mock"]


async def test_state_of_each_target_is_a_metric(up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient) -> None:
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

        async def is_probing() -> bool:
            return 'lockgate_target_state{state="probing",target="a/mock"} 1' in await scraped()

        await until(is_probing)


async def test_probe_takes_a_failing_provider_out_and_brings_it_back(
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


async def test_rejected_probe_counts_as_a_working_provider(up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/models", status(401))
    async with live(configuration(up, other, probe={"path": "/models", "every": "50ms"}, cooldown={"failures": 1})) as gateway:
        await eventually(lambda: len(up.requests) >= 4)
        assert (await call(client, gateway)).headers["x-gateway-target"] == "a/mock"


async def test_unanswered_probe_times_out_and_a_later_one_recovers(up: FaultUpstream, other: FaultUpstream) -> None:
    up.on("/v1/models", play(HANG))
    async with live(configuration(up, other, probe={"path": "/models", "every": "50ms"}, cooldown={"failures": 2})) as gateway:
        await eventually(lambda: not gateway.gateway.health.is_live("a/mock"))
        up.on("/v1/models", canned(b"{}"))
        await eventually(lambda: gateway.gateway.health.is_live("a/mock"))


async def test_no_probe_unless_configured(up: FaultUpstream, other: FaultUpstream) -> None:
    async with live(configuration(up, other)):
        await asyncio.sleep(0.3)
    assert up.requests == []


async def test_u29_workers_and_gateways_share_cooldowns_across_restarts(
    up: FaultUpstream,
    other: FaultUpstream,
    own_redis: RedisServer,
    gateway: Start,
    client: httpx.AsyncClient,
) -> None:
    up.on(PATH, status(429, "slow down", {"retry-after": "120"}))
    config = json.loads(configuration(up, other)) | {"store": own_redis.url}
    del config["admin"]["key_hash"]
    text = json.dumps(config)
    two_workers, single = await start_ready(gateway, text, workers=2), await start_ready(gateway, text)
    assert (await call(client, single)).status_code == 200

    async def cooldown_s(running: RunningGateway) -> float:
        targets = (await client.get(running.admin_url + "/admin/targets")).json()["targets"]
        return float(targets[0]["cooling_seconds"] or 0)

    async def is_shared() -> bool:
        return await cooldown_s(two_workers) > 0

    first = await cooldown_s(single)
    assert 100 < first <= 120
    await until(is_shared)
    assert abs(await cooldown_s(two_workers) - await cooldown_s(single)) < 4
    answers = [await call(client, two_workers) for _ in range(10)]
    assert {answer.headers["x-gateway-target"] for answer in answers} == {"b/mock"}
    sent = len(up.requests)
    await asyncio.to_thread(single.stop)
    restarted = await start_ready(gateway, text)
    assert (await call(client, restarted)).headers["x-gateway-target"] == "b/mock"
    assert 0 < await cooldown_s(restarted) <= first
    assert len(up.requests) == sent

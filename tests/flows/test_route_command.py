"""`lockgate route --admin`: the routing plan of a running gateway with the health of its targets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gateway.commands.cli import cli
from tests.faults.behaviours import status
from tests.faults.client import ask, chat
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.flows.operator import digest
from tests.flows.processes import Start, port, start_ready, until
from tests.support.plain_http import WITHOUT_AUTHORITIES

ADMIN_KEY = "admin-key-0123456789abcdef"


@pytest.fixture
async def up() -> AsyncIterator[FaultUpstream]:
    """Start an upstream that rate-limits one of its models."""
    async with FaultUpstream() as server:
        server.on(lambda request: request.model == "busy", status(429, "slow down", {"retry-after": "100"}))
        yield server


def configuration(up: FaultUpstream, **more: Any) -> str:
    """Return a configuration with an ordered list, a split and a mirror over three targets of one upstream."""
    models = {
        "order": ["up/busy", "up/second"],
        "split": {"targets": {"up/busy": 1, "up/second": 1, "up/third": 2}, "balance": "latency"},
        "strict": {"targets": ["groq/m"], "require_parameters": True},
        "copied": {"targets": "up/second", "mirror": {"target": "up/third", "share": "50%"}},
    }
    providers = {
        "up": {"type": "openai-compatible", "base_url": up.base_url},
        "groq": {"base_url": up.base_url, "api_key": "${GROQ_KEY:-none}"},
    }
    return json.dumps({**more, "providers": providers, "models": models})


async def route_command(*args: str, key: str = "") -> Result:
    """Run `lockgate route`."""
    return await asyncio.to_thread(CliRunner().invoke, cli, ["route", *args], env={"LOCKGATE_ADMIN_KEY": key})


async def test_targets_in_cooldown_come_last_with_their_remaining_time(up: FaultUpstream) -> None:
    admin = {"listen": "127.0.0.1:8081", "key_hash": digest(ADMIN_KEY)}
    async with live(configuration(up, admin=admin)) as gateway:
        before = json.loads((await route_command("order", "--admin", gateway.admin_url, "--json", key=ADMIN_KEY)).output)
        assert before["orders"] == [{"targets": ["up/busy", "up/second"], "calls": 1000}]
        assert (await ask(port(gateway), chat("order"))).status == 200  # type: ignore[arg-type]
        after = json.loads((await route_command("order", "--admin", gateway.admin_url, "--json", key=ADMIN_KEY)).output)
        assert after["orders"] == [{"targets": ["up/second", "up/busy"], "calls": 1000}]
        node = after["route"]["order"][0]
        assert (node["target"], node["state"], node["reason"]) == ("up/busy", "cooling", "rate_limit")
        assert 80 < node["seconds"] <= 100
        split = json.loads((await route_command("split", "--admin", gateway.admin_url, "--json", "--n", "400", key=ADMIN_KEY)).output)
        assert "up/busy" not in split["first"]
        assert "nothing is measured" not in split["route"]["how"]
        assert split["calls"] == 400
        copied = json.loads((await route_command("copied", "--admin", gateway.admin_url, "--json", "--n", "120", key=ADMIN_KEY)).output)
        assert copied["mirrors"] == [{"target": "up/third", "share": 0.5, "calls": 120}]
        shown = (await route_command("order", "--admin", gateway.admin_url, "--n", "3", key=ADMIN_KEY)).output
        assert "up/busy  COOLDOWN: " in shown
        assert "100.0%  up/second, then up/busy" in shown
        assert len(up.requests) == 2, "a plan calls no upstream"


async def test_error_of_a_caller_is_shown_and_malformed_requests_are_rejected(up: FaultUpstream) -> None:
    async with live(configuration(up)) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False) as client:
        missing = await route_command("nothing", "--admin", gateway.admin_url)
        assert missing.exit_code == 1
        assert "a caller would get 404 model_not_found for 'model'" in missing.output
        for body in ("", "[]", '{"model": 1}', '{"model": "m", "n": 0}', '{"model": "m", "m": 1}', '{"model": "m", "n": 1000000}'):
            answer = await client.post(gateway.admin_url + "/admin/route", content=body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        snowman = {"model": "order", "headers": {"x-session-id": "\u2603"}}
        answer = await client.post(gateway.admin_url + "/admin/route", json=snowman)
        assert answer.json() == {"refused": "a header contains characters that HTTP cannot transmit"}
        flag = await route_command("order", "--admin", gateway.admin_url, "-H", "x-gateway-require-parameters:maybe")
        assert "a caller would get 400" in flag.output
    stopped = await route_command("order", "--admin", gateway.admin_url)
    assert stopped.exit_code == 1
    assert "no gateway answers at" in stopped.output


async def test_route_plan_combines_the_health_of_all_workers(gateway: Start, up: FaultUpstream) -> None:
    running = await start_ready(gateway, configuration(up, store="redis://127.0.0.1:1/0"), workers=2)
    assert (await ask(port(running), chat("order"))).status == 200

    async def has_cooldown() -> bool:
        plan = json.loads((await route_command("order", "--admin", running.admin_url, "--json", "--n", "1")).output)
        return bool(plan["orders"][0]["targets"] == ["up/second", "up/busy"])

    await until(has_cooldown)

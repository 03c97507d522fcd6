"""Notifications of whole gateways: budgets, refusals, targets, reload, several gateways on one Redis, the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.commands.cli import run
from gateway.commands.notify import send_test
from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.support.redis import RedisServer
from tests.support.redis_fixtures import own_redis

__all__ = ["own_redis"]

TOKEN = "lg-a-0123456789abcdef"
PATH = "/v1/chat/completions"
WITHIN_S = 40.0


@pytest.fixture
async def up() -> AsyncIterator[FaultUpstream]:
    """Return an upstream whose answers cost 0.6 USD: 6 tokens at 100,000 USD per million."""
    async with FaultUpstream() as server:
        server.chunks = 6
        yield server


@pytest.fixture
async def hook() -> AsyncIterator[FaultUpstream]:
    """Return a webhook."""
    async with FaultUpstream() as server:
        server.on(lambda request: True, canned(b"ok"))
        yield server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client that sends the key."""
    async with httpx.AsyncClient(trust_env=False, timeout=30, headers=bearer(TOKEN)) as caller:
        yield caller


def configuration(up: FaultUpstream, hook: FaultUpstream | None, store: str = "memory://", cooldown: str = "100ms") -> str:
    """Return a configuration with a key whose team has a daily budget of one dollar."""
    sections = {
        "store": store,
        "store_deadline": "10s",
        "providers": {
            "up": {
                "type": "openai-compatible", "base_url": up.base_url, "cooldown": {"failures": 2, "time": cooldown, "max": cooldown},
                "prices": {"mock": {"prompt": 0, "output": 100_000}},
            }
        },
        "models": {"m": {"targets": "up/mock", "retries": 0}},
        "teams": {"search": {"limits": {"spend": "1 USD/day"}}},
        "keys": {"app": {"hash": digest(TOKEN), "team": "search"}},
    }  # fmt: skip
    if hook is not None:
        sections["notify"] = {"webhook": f"{hook.origin}/hook", "down_after": "50ms"}
    return json.dumps(sections)


async def call(client: httpx.AsyncClient, gateway: Live, max_tokens: int = 6) -> int:
    """Send one chat call and return its status."""
    response = await client.post(gateway.base_url + "/chat/completions", json=chat(max_tokens=max_tokens))
    return response.status_code


def bodies(hook: FaultUpstream) -> list[dict[str, Any]]:
    """Return the notifications so far."""
    return [json.loads(request.body) for request in hook.requests]


def events(hook: FaultUpstream) -> list[str]:
    """Return the events of the notifications so far."""
    return [body["event"] for body in bodies(hook)]


async def test_budget_of_a_team_is_notified_at_its_thresholds_and_when_it_refuses(
    up: FaultUpstream, hook: FaultUpstream, client: httpx.AsyncClient
) -> None:
    async with live(configuration(up, hook)) as gateway:
        assert await call(client, gateway) == 200
        await eventually(lambda: len(hook.requests) == 1, WITHIN_S)
        assert await call(client, gateway) == 429
        await eventually(lambda: len(hook.requests) == 2, WITHIN_S)
        up.chunks = 3
        assert await call(client, gateway, max_tokens=3) == 200
        await eventually(lambda: len(hook.requests) == 3, WITHIN_S)
        assert gateway.count("lockgate_notifications", "sent") == 3
    first, refused, second = bodies(hook)
    assert first["text"] == "50 % of the budget of team search is spent: 0.60 USD of 1 USD per day."
    assert (first["budget"]["owner"], first["budget"]["name"], first["budget"]["spent_usd"]) == ("team", "search", 0.6)
    assert refused["event"] == "budget_refused"
    assert (second["budget"]["threshold"], second["budget"]["share"]) == (0.8, 0.9)


async def test_target_is_notified_when_it_is_down_and_when_it_answers_again(
    up: FaultUpstream, hook: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on(PATH, status(500))
    async with live(configuration(up, hook)) as gateway:
        for _ in range(3):
            assert await call(client, gateway) >= 500
        await eventually(lambda: events(hook) == ["target_down"], WITHIN_S)
        up.reset()
        while await call(client, gateway) != 200:  # noqa: ASYNC110 - only a call ends the outage
            await asyncio.sleep(0.05)
        await eventually(lambda: "target_recovered" in events(hook), WITHIN_S)
    down = bodies(hook)[0]
    assert (down["target"]["name"], down["target"]["reason"], down["target"]["last_failure"]) == ("up/mock", "failures", "server_error")


async def test_reload_starts_and_ends_notifications(up: FaultUpstream, hook: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(configuration(up, None)) as gateway:
        up.on(PATH, status(500))
        for _ in range(3):
            await call(client, gateway)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() in ("notifier", "notifications")] == []
        gateway.path.write_text(configuration(up, hook))
        assert await gateway.reloader.reload() == "applied"
        await eventually(lambda: events(hook) == ["target_down"], WITHIN_S)
        gateway.path.write_text(configuration(up, None))
        assert await gateway.reloader.reload() == "applied"
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "notifier"] == []
        assert gateway.reloader.needs_restart == []


async def test_one_of_several_gateways_on_one_redis_sends_each_notification(
    up: FaultUpstream, hook: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    text = configuration(up, hook, own_redis.url, cooldown="3s")  # long enough for every gateway to read it
    async with live(text) as one, live(text) as two, live(text) as three:
        assert await call(client, one) == 200
        up.chunks = 1
        for gateway in (two, three):
            assert await call(client, gateway, max_tokens=1) == 200
        await eventually(lambda: events(hook).count("budget") >= 1, WITHIN_S)
        up.on(PATH, status(500))
        for gateway in (one, two, three) * 3:
            await call(client, gateway, max_tokens=1)
        await eventually(lambda: events(hook).count("target_down") == 1, WITHIN_S)
        up.reset()
        up.chunks = 1
        while await call(client, one, max_tokens=1) != 200:  # noqa: ASYNC110 - only a call ends the outage
            await asyncio.sleep(0.05)
        await eventually(lambda: "target_recovered" in events(hook), WITHIN_S)
        await eventually(lambda: all(not health.is_down for each in (one, two, three) for health in each.gateway.health.all()), WITHIN_S)
    thresholds = [body["budget"]["threshold"] for body in bodies(hook) if body["event"] == "budget"]
    assert len(thresholds) == len(set(thresholds)), "each threshold once"
    assert [events(hook).count(event) for event in ("target_down", "target_recovered")] == [1, 1]


async def test_command_sends_a_test_notification(tmp_path: Path, hook: FaultUpstream) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"notify": {"webhook": hook.origin}}))
    done = await asyncio.to_thread(CliRunner().invoke, send_test, ["--config", str(path)])
    assert (done.exit_code, done.output) == (0, "the webhook accepted the notification\n")
    assert events(hook) == ["test"]


def test_command_says_why_the_webhook_did_not_accept_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"notify": {"webhook": "http://127.0.0.1:1/very-secret"}}))
    assert run(["notify", "test", "--config", str(path)]) == 1
    text = capsys.readouterr().err
    assert "lockgate: the webhook did not accept the notification: " in text
    assert "very-secret" not in text
    path.write_text("models: {}\n")
    assert run(["notify", "test", "--config", str(path)]) == 1
    assert "has no notify: add notify: { webhook: URL }" in capsys.readouterr().err

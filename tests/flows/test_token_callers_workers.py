"""Callers with tokens at several worker processes, which share budgets through Redis and the issuer's keys through a folder."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, one_model
from tests.flows.operator import ADMIN, KEYED, bearer
from tests.running import RunningGateway
from tests.support.issuer import TokenIssuer
from tests.support.redis import RedisServer


def wait_for_metrics(admin_url: str, lines: list[str]) -> None:
    """Wait until the metrics contain all lines. Fail after a minute."""
    deadline = time.monotonic() + 60
    while True:
        text = httpx.get(admin_url + "/metrics", headers=bearer(ADMIN), trust_env=False, timeout=30).text
        if all(line in text for line in lines):
            return
        assert time.monotonic() < deadline, [line for line in lines if line not in text]
        time.sleep(0.1)


@pytest.mark.prove
async def test_workers_share_the_budget_of_a_caller_and_start_without_the_issuer(
    up: FaultUpstream, own_redis: RedisServer, gateway: Callable[..., RunningGateway], tmp_path: Path
) -> None:
    async def serve() -> RunningGateway:
        settings = issuer.settings("policies: { '*': { limits: { requests: 17/h } } }")
        text = one_model(up, f"store: {own_redis.url}\nstore_deadline: 10s\njournal: {tmp_path}/state\n{settings}{KEYED}")
        running: RunningGateway = await asyncio.to_thread(gateway, text, {"UP_KEY": CREDENTIAL}, ("--workers", "2"))
        await asyncio.to_thread(running.wait_ready)
        return running

    async def call(running: RunningGateway, token: str) -> int:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as own:  # a connection of its own, which either worker accepts
            answer = await own.post(running.base_url + "/chat/completions", json=chat(), headers=bearer(token))
            return answer.status_code

    async with TokenIssuer() as issuer:
        issuer.add_key("k1", "RS256")
        running = await serve()
        statuses = [await call(running, issuer.token(jti=str(number))) for number in range(20)]
        assert statuses == [200] * 17 + [429] * 3
        command = [sys.executable, "-m", "gateway", "limits", "--owner", "key:staff/alice", "--admin", running.admin_url]
        shown = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=True, env={"LOCKGATE_ADMIN_KEY": ADMIN}
        )
        assert "17 requests per h" in shown.stdout
        counted = [
            'lockgate_issuer_key_fetches_total{issuer="staff",outcome="ok"} 2.0',
            'lockgate_key_requests_total{key="staff/alice",status="2xx",team="none"} 17.0',
        ]
        await asyncio.to_thread(wait_for_metrics, running.admin_url, counted)  # the workers report their counts periodically
        await issuer.close()
        again = await serve()
        assert {await call(again, issuer.token(sub=f"user-{number}")) for number in range(8)} == {200}
        assert await call(again, issuer.token(headers={"kid": "other"})) == 503

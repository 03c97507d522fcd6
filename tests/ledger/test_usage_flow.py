"""/admin/usage and `lockgate usage` after real calls, across restarts and over several processes."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from gateway.commands.cli import run as command
from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import FIN, HANG, FaultUpstream
from tests.flows.live import eventually, live
from tests.ledger.conftest import ENVIRON, PRICES, TOKEN, call, usage, yaml
from tests.running import RunningGateway
from tests.support.redis import RedisServer

HASH = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()
KEYS = f"teams:\n  search: {{}}\nkeys:\n  app: {{ hash: '{HASH}', team: search, limits: {{ spend: 50 USD/month }} }}\n"
ONE = {"requests": 1, "prompt_tokens": 2, "cached_tokens": 0, "output_tokens": 5, "reasoning_tokens": 0}


async def test_each_call_is_booked_once_by_key_team_model_target_and_day(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(yaml(up, rest=KEYS), environ=ENVIRON) as gateway:
        for stream in (False, True, False):
            assert (await call(client, gateway, stream=stream)).status_code == 200
        await gateway.records(3)
        today = str(datetime.now(UTC).date())
        for by, name in (("key", "app"), ("team", "search"), ("model", "m"), ("target", "up/mock"), ("day", today)):
            found = await usage(client, gateway, by=by)
            (row,) = found["rows"]
            assert row[by] == name
            assert {field: row[field] for field in ONE} == {field: 3 * count for field, count in ONE.items()}
            assert row["cost_nanodollars"] == 3 * (2 * 10_000 + 5 * 100_000)
            assert row["cost_usd"] == pytest.approx(0.00156)
            assert row["estimated"] == 0
            assert found["source"] == "process"
        assert (await usage(client, gateway, **{"from": "2020-01-01", "to": "2020-02-01"}))["rows"] == []


async def test_usage_as_csv(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(yaml(up, rest=KEYS), environ=ENVIRON) as gateway:
        await call(client, gateway)
        await gateway.records(1)
        answers = [
            await client.get(gateway.admin_url + "/admin/usage?format=csv"),
            await client.get(gateway.admin_url + "/admin/usage", headers={"accept": "text/csv"}),
        ]
    for answer in answers:
        assert answer.headers["content-type"].startswith("text/csv")
        head, line = answer.text.splitlines()
        columns = "requests,prompt_tokens,cached_tokens,output_tokens,reasoning_tokens,cost_nanodollars,estimated,unpriced"
        columns += ",brought_cost_nanodollars"
        assert head == f"key,{columns},cost_usd"
        assert line == "app,1,2,0,5,0,520000,0,0,0,0.000520000"


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"by": "colour"}, "by"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"to": "20260101"}, "to"),
        ({"to": "2026-W01-1"}, "to"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "from"),
        ({"from": "2020-01-01", "to": "2026-11-01"}, "from"),
        ({"format": "xml"}, "format"),
        ({"format": ""}, "format"),
        ({"from": ""}, "from"),
        ({"to": ""}, "to"),
        ({"by": ["team", "key"]}, "by"),
        ({"since": "2026-11-01"}, "since"),
    ],
)
async def test_an_invalid_query_is_a_400_that_names_the_parameter(
    up: FaultUpstream, client: httpx.AsyncClient, params: dict[str, str | list[str]], param: str
) -> None:
    async with live(yaml(up), environ=ENVIRON) as gateway:
        answer = await client.get(gateway.admin_url + "/admin/usage", params=params)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_usage_requires_the_admin_key_if_configured(
    up: FaultUpstream, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = f"admin: {{ listen: 127.0.0.1:0, key_hash: 'sha256:{hashlib.sha256(b'admin-0123456789').hexdigest()}' }}\n"
    async with live(yaml(up, rest=admin + KEYS), environ=ENVIRON) as gateway:
        await call(client, gateway)
        await gateway.records(1)
        assert (await client.get(gateway.admin_url + "/admin/usage")).status_code == 401
        assert await asyncio.to_thread(command, ["usage", "--admin", gateway.admin_url]) == 1
        assert "admin key" in capsys.readouterr().err
        arguments = ["usage", "--admin", gateway.admin_url, "--admin-key", "admin-0123456789"]
        assert await asyncio.to_thread(command, arguments) == 0
        text = capsys.readouterr().out
        assert await asyncio.to_thread(command, [*arguments, "--by", "target", "--csv"]) == 0
    head, row, total, *_ = text.splitlines()
    assert head.split() == ["key", "requests", "prompt", "cached", "output", "reasoning", "unpriced", "USD"]
    assert row.split() == ["app", "1", "2", "0", "5", "0", "0", "0.0005"]
    assert total.split()[:2] == ["total", "1"]
    assert "up/mock,1,2,0,5,0,520000,0,0,0,0.000520000" in capsys.readouterr().out


def test_usage_command_without_a_gateway_names_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["usage", "--admin", "http://127.0.0.1:9"]) == 1
    assert "no gateway answers at http://127.0.0.1:9" in capsys.readouterr().err


async def test_usage_and_budgets_survive_a_restart(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    config = yaml(up, tmp_path / "books", KEYS.replace("50 USD/month", "0.001 USD/month"))
    for at in range(3):
        async with live(config, environ=ENVIRON) as gateway:
            first = await call(client, gateway, max_tokens=5)
            assert first.status_code == (200 if at == 0 else 429), first.text
            await gateway.records(1)
            found = await usage(client, gateway)
            assert found["total"]["cost_nanodollars"] == 520_000
            assert found["total"]["requests"] == 1
    assert len(list((tmp_path / "books").glob("*.journal"))) == 1  # each process inherited the previous journal


async def test_bookings_and_stream_progress_survive_a_kill(
    up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path, gateway: Callable[..., RunningGateway]
) -> None:
    config = yaml(up, tmp_path / "books")
    one = await asyncio.to_thread(gateway, config, ENVIRON)
    body = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
    answer = await client.post(one.base_url + "/chat/completions", json=body)
    assert answer.status_code == 200
    told = {"prompt_tokens": 30, "completion_tokens": 1, "total_tokens": 31}
    up.on("/v1/chat/completions", sse(*[{**chat_chunk(f"w{at} "), "usage": told} for at in range(7)], ending=HANG))
    async with client.stream("POST", one.base_url + "/chat/completions", json={**body, "stream": True}) as stream:
        pieces = stream.aiter_bytes()
        while b"w6" not in await anext(pieces):
            pass
        journal = next((tmp_path / "books").glob("*.journal"))
        await eventually(lambda: b'"p"' in journal.read_bytes() and b"[1,30,0,7" in journal.read_bytes())
        one.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(one.process.wait)
    async with live(config, environ=ENVIRON) as successor:
        found = await usage(client, successor)
    assert found["total"]["requests"] == 2
    assert found["total"]["prompt_tokens"] == 2 + 30
    assert found["total"]["output_tokens"] == 5 + 7
    assert found["total"]["estimated"] == 1
    one.process.returncode = 0  # killed on purpose


async def test_billed_failed_attempts_are_booked_at_their_own_target(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    """A stream reports usage and breaks before its first output: the next target answers, and both attempts are billed."""
    billed = {**chat_chunk("", role="assistant"), "usage": {"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 40}}
    up.on(lambda request: request.model == "breaks", sse(billed, ending=FIN))
    config = yaml(up).replace("m: up/mock", "m: [up/breaks, up/mock]").replace(PRICES, "{ '*': { prompt: 10, output: 100 } }")
    async with live(config, environ=ENVIRON) as gateway:
        answer = await call(client, gateway, stream=True)
        assert "w4" in answer.text
        (record,) = await gateway.records(1)
        found = {row["target"]: row for row in (await usage(client, gateway, by="target"))["rows"]}
    assert (found["up/breaks"]["requests"], found["up/breaks"]["prompt_tokens"], found["up/breaks"]["cost_nanodollars"]) == (0, 40, 400_000)
    assert (found["up/mock"]["requests"], found["up/mock"]["prompt_tokens"], found["up/mock"]["cost_nanodollars"]) == (1, 2, 520_000)
    assert record["cost_usd"] == pytest.approx(0.00092)


async def test_the_receipt_contains_the_cost(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    headers = {"x-gateway-receipt": "body"}
    body = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
    async with live(yaml(up), environ=ENVIRON) as gateway:
        priced = await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)
    async with live(yaml(up).replace(f", prices: {PRICES}", ""), environ=ENVIRON) as gateway:
        unknown = await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)
    assert priced.json()["gateway"]["cost_usd"] == 0.00052
    assert unknown.json()["gateway"]["cost_usd"] is None


async def test_workers_and_gateways_share_one_ledger_in_redis(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer, gateway: Callable[..., RunningGateway]
) -> None:
    config = f"store: {own_redis.url}\nstore_deadline: 10s\n" + yaml(up)
    both = [await asyncio.to_thread(gateway, config, ENVIRON, ("--workers", "2")), await asyncio.to_thread(gateway, config, ENVIRON)]
    for one in both:
        await asyncio.to_thread(one.wait_ready)
    body = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
    answers = await asyncio.gather(*(client.post(one.base_url + "/chat/completions", json=body) for one in both * 8))
    assert {answer.status_code for answer in answers} == {200}

    async def told(one: RunningGateway) -> tuple[int, int, str]:
        found = (await client.get(one.admin_url + "/admin/usage")).json()
        return found["total"]["requests"], found["total"]["cost_nanodollars"], found["source"]

    for one in both:
        for _ in range(1000):
            if await told(one) == (16, 16 * 520_000, "store"):
                break
            await asyncio.sleep(0.05)
        assert await told(one) == (16, 16 * 520_000, "store")
    own_redis.kill()
    assert [await told(one) for one in both] == [(8, 8 * 520_000, "workers"), (8, 8 * 520_000, "process")]

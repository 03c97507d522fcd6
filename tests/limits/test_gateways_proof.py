"""Complete gateways with one Redis, which is frozen, or which a flood of refused calls must not load."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from gateway.store.member_scripts import OVERDUE_AFTER_S
from tests.faults.client import FaultClient, chat, request_head
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command
from tests.telemetry.test_totals import workers_of

Gateways = Callable[..., RunningGateway]

TOKEN, NEIGHBOUR = "lg-proof-0123456789abcdef", "lg-neighbour-0123456789abc"
LIMIT = 60
"""Requests per second of one key over all gateways."""
CALLERS = 5
DEADLINE = 0.5
"""Timeout of one decision: long enough to distinguish waiting for the store from pauses of a busy machine."""
FROZEN = 10.0
FLOOD = 50_000
BATCH = 25
BODY = json.dumps(chat()).encode()


class Call(NamedTuple):
    """A call and its outcome."""

    began: float
    took: float
    status: int
    degraded: bool


def configured(up: FaultUpstream, server: RedisServer) -> str:
    """Return the configuration of a gateway."""
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in (TOKEN, NEIGHBOUR)]
    return f"""
store: {server.url}
store_deadline: {DEADLINE * 1000:g}ms
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: up/mock
keys:
  shared: {{ hash: "sha256:{digests[0]}", limits: {{ requests: {LIMIT}/s }} }}
  neighbour: {{ hash: "sha256:{digests[1]}", limits: {{ requests: 1000000/h }} }}
"""


def request(token: str) -> bytes:
    """Return head and body of a chat call."""
    return request_head(len(BODY), [("authorization", f"Bearer {token}")]) + BODY


async def started(gateway: Gateways, yaml: str, count: int) -> list[RunningGateway]:
    """Start gateways and wait until they are ready."""
    found = [await asyncio.to_thread(gateway, yaml, {"UP_KEY": "sk-upstream-credential"}) for _ in range(count)]
    for one in found:
        await asyncio.to_thread(one.wait_ready)
    return found


async def calling(port: int, until: float, record: list[Call]) -> None:
    """Make calls on one connection until a time. All callers together request several times the limit."""
    async with await FaultClient.connect(port) as client:
        while (began := time.monotonic()) < until:
            await client.send(request(TOKEN))
            answer = await client.answer()
            took = time.monotonic() - began
            record.append(Call(began, took, answer.status, answer.header("x-gateway-limits") == "degraded"))
            await asyncio.sleep(0.04)


def arrived(up: FaultUpstream, start: float, end: float) -> int:
    """Return the number of requests that reached the upstream between two times."""
    return sum(start <= one.at < end for one in up.requests)


async def metric(gateway: RunningGateway, name: str) -> float:
    """Return one metric of the gateway, or 0 if it is missing."""
    text = (await asyncio.to_thread(httpx.get, gateway.admin_url + "/metrics", trust_env=False, timeout=30)).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_r3_g3_callers_of_three_gateways_wait_for_a_frozen_store_once_and_shares_hold(
    own_redis: RedisServer, gateway: Gateways, figure: Figure
) -> None:
    async with FaultUpstream() as up:
        up.chunks = 1
        gateways = await started(gateway, configured(up, own_redis), 3)
        await asyncio.sleep(1.5)  # until each counts all members
        record: list[Call] = []
        start = time.monotonic()
        callers = [
            asyncio.create_task(calling(int(one.url.rsplit(":", 1)[1]), start + 4 + FROZEN + 6, record))
            for one in gateways
            for _ in range(CALLERS)
        ]
        await asyncio.sleep(4)
        frozen = time.monotonic()
        own_redis.freeze()
        await asyncio.sleep(FROZEN)
        thawed = time.monotonic()
        own_redis.thaw()
        await asyncio.gather(*callers)
        end = time.monotonic()
        deadlines = [await metric(one, 'lockgate_store_errors_total{kind="deadline"}') for one in gateways]
    before = [call for call in record if call.began < frozen - DEADLINE]
    during = [call for call in record if frozen <= call.began < thawed - DEADLINE]
    waited = [call for call in during if call.took >= DEADLINE]
    again = [call for call in waited if call.began > frozen + 2 * DEADLINE + 1]
    shares, after = arrived(up, frozen + 4, thawed), arrived(up, thawed, end)
    figure("calls before, slowest tenth", sorted(call.took for call in before)[len(before) * 9 // 10] * 1000, "ms")
    figure("calls while it is frozen", len(during), "")
    figure("of these, waited for the deadline", len(waited), f"by {3 * CALLERS} callers")
    figure("of these, begun after the breakers had opened", len(again), "")
    figure("calls while it is frozen, slowest tenth", sorted(call.took for call in during)[len(during) * 9 // 10] * 1000, "ms")
    figure("the upstream saw before", arrived(up, start + 1, frozen) / (frozen - start - 1), f"a second, of {LIMIT}")
    figure("the upstream saw by shares", shares / (thawed - frozen - 4), f"a second, of {LIMIT}")
    figure("the upstream saw afterwards", after / (end - thawed), f"a second, of {LIMIT}")
    assert {call.status for call in record} == {200, 429}
    assert sum(call.degraded for call in before) <= len(before) / 20
    assert all(1 <= found <= 3 for found in deadlines)  # the breaker opened once; a busy machine may cause another outage
    assert len(waited) - len(again) <= 2 * 3 * CALLERS  # once per caller, and once more for a pause of the machine
    assert len(again) <= len(during) / 50  # pauses of the machine; if the breaker did not open, all calls would wait
    assert sum(call.degraded for call in during) > len(during) / 2
    for since, until, seen in ((frozen, thawed, arrived(up, frozen, thawed)), (thawed, end, after), (start, end, len(up.requests))):
        assert seen <= LIMIT * (until - since + 2)  # the window, and late arrivals of the previous one
    assert shares > LIMIT * (thawed - frozen - 4) / 4  # shares are used
    last = [call for call in record if call.began > end - 2]
    assert sum(call.degraded for call in last) <= len(last) / 10  # limits are shared again
    assert after > 2 * LIMIT
    for one in gateways:
        said = [line for line in one.output.splitlines() if line.startswith("store: ")]
        assert 2 <= len(said) <= 6
        assert all("is unavailable" in line or "is available again" in line for line in said)


async def scripts(server: RedisServer) -> int:
    """Return the number of scripts that Redis has run."""
    stats = await run_command(server.address, "INFO", "commandstats")
    return sum(int(calls) for calls in re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", stats.decode()))


async def flood(port: int, count: int) -> None:
    """Send refused calls on one connection, several at a time."""
    text = request(TOKEN) * BATCH
    async with await FaultClient.connect(port) as client:
        for _ in range(count // BATCH):
            await client.send(text)
            refused = 0
            client.received = b""
            while refused < BATCH or not client.received.endswith(b"}"):
                assert await client.read_some(), client.received
                refused = client.received.count(b"HTTP/1.1 429 ")
            assert client.received.count(b"HTTP/1.1 ") == BATCH


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_g7_fifty_thousand_refused_http_calls_send_few_redis_commands(
    own_redis: RedisServer, gateway: Gateways, figure: Figure
) -> None:
    async with FaultUpstream() as up:
        up.chunks = 1
        yaml = configured(up, own_redis).replace(f"{LIMIT}/s", "5/h")
        (one,) = await started(gateway, yaml, 1)
        port = int(one.url.rsplit(":", 1)[1])
        async with await FaultClient.connect(port) as client:
            for _ in range(6):
                await client.send(request(TOKEN))
                status = (await client.answer()).status
            assert status == 429
            idle, since = await scripts(own_redis), time.monotonic()
            await asyncio.sleep(4)
            idle_rate = (await scripts(own_redis) - idle) / (time.monotonic() - since)
            before, commands, began = await scripts(own_redis), await metric(one, "lockgate_store_commands_total"), time.monotonic()
            flooding = [asyncio.create_task(flood(port, FLOOD // 8)) for _ in range(8)]
            served, slowest = 0, 0.0
            while not all(task.done() for task in flooding):
                asked = time.monotonic()
                await client.send(request(NEIGHBOUR))
                assert (await client.answer()).status == 200
                slowest = max(slowest, time.monotonic() - asked)
                served += 1
                await asyncio.sleep(0.5)
            await asyncio.gather(*flooding)
            took = time.monotonic() - began
            done = await scripts(own_redis) - before
            by_metric = await metric(one, "lockgate_store_commands_total") - commands
        refused = await metric(one, 'lockgate_limit_decisions_total{decision="refused",kind="requests",mode="shared",owner="key"}')
    beyond = done - idle_rate * took - 2 * served
    figure("refused over HTTP", refused, f"in {took:.1f} s")
    figure("scripts that Redis ran meanwhile", done, f"of which it runs {idle_rate:.1f} a second without any call, and 2 for a neighbour's")
    figure("for the flood itself", beyond, "")
    figure("commands that the gateway counted meanwhile", by_metric, "")
    figure("slowest of a neighbour's calls", slowest * 1000, f"ms, of {served}")
    assert refused >= FLOOD
    assert beyond <= FLOOD / 100
    assert by_metric <= done
    assert len(up.requests) == 5 + served


@pytest.mark.prove
@pytest.mark.timeout(200)
async def test_a_killed_worker_is_replaced_in_its_seat_and_a_killed_gateway_is_missing(
    own_redis: RedisServer, gateway: Gateways, figure: Figure, tmp_path: Path
) -> None:
    async with FaultUpstream() as up:
        yaml, env = configured(up, own_redis), {"UP_KEY": "sk-upstream-credential"}
        two = await asyncio.to_thread(gateway, yaml, env, ("--workers", "2"))
        (one,) = await started(gateway, yaml, 1)
        await asyncio.to_thread(two.wait_ready)
        await present(one, live=3, missing=0)
        names, began = set(await run_command(own_redis.address, "ZRANGE", "lockgate:{caller}:members", 0, -1)), time.monotonic()
        os.kill(workers_of(two.pid)[0], signal.SIGKILL)
        await joined(own_redis, names)
        await asyncio.sleep(OVERDUE_AFTER_S)
        await present(one, live=3, missing=0)
        figure("a worker that was killed is replaced, and its share free again, after", time.monotonic() - began, "s")
        names = set(await run_command(own_redis.address, "ZRANGE", "lockgate:{caller}:members", 0, -1))
        os.kill(workers_of(two.pid)[0], signal.SIGKILL)
        await joined(own_redis, names)
        await asyncio.to_thread(two.stop)  # one worker may not have taken over its seat yet
        await asyncio.sleep(OVERDUE_AFTER_S)
        await present(one, live=1, missing=0)
        (tmp_path / "killed.yaml").write_text(yaml)
        other = await asyncio.to_thread(RunningGateway, tmp_path / "killed.yaml", tmp_path, env)
        try:
            await present(one, live=2, missing=0)
        finally:
            other.process.kill()
            other.process.wait()
        await present(one, live=1, missing=1)


async def present(gateway: RunningGateway, *, live: int, missing: int) -> None:
    """Wait until a gateway reports this many members."""
    end, wanted = time.monotonic() + 60, (live, missing)
    while (found := [await metric(gateway, f'lockgate_store_members{{state="{state}"}}') for state in ("live", "missing")]) != [*wanted]:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


async def joined(server: RedisServer, before: set[bytes]) -> None:
    """Wait until there is a new member."""
    end = time.monotonic() + 60
    while not set(await run_command(server.address, "ZRANGE", "lockgate:{caller}:members", 0, -1)) - before:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)

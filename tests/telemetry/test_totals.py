"""10,000 mixed calls to two workers, one of which is killed and restarted: /metrics agrees with the upstream's own counts.

The calls in flight in the killed worker are in mid-stream when it dies, so both sides must have counted each of them once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.server.worker import PROCESS_NAME
from tests.faults.client import FaultClient, chat
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Request
from tests.flows.live import eventually
from tests.running import Figure, RunningGateway
from tests.support.load import TOKENS, Load, configuration
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.redis import RedisServer

CALLS = 10_000
HELD = 12
HOLD = "hold on #chunks=400# #delay=20ms#"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(url: str) -> Samples:
    """Return every sample of a scrape."""
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as client:
        text = (await client.get(url)).text
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def total(samples: Samples, name: str, by: str = "", **labels: str) -> Counter[str]:
    """Add up the series of a metric with these labels, by the values of the label `by`."""
    sums: Counter[str] = Counter()
    for (series_name, series_labels), value in samples.items():
        if series_name == name and set(labels.items()) <= series_labels:
            sums[dict(series_labels).get(by, "")] += int(value)
    return sums


def counters(samples: Samples) -> Samples:
    """Return the samples that must never decrease."""
    return {key: value for key, value in samples.items() if key[0].endswith(("_total", "_count", "_bucket"))}


def call_counters(samples: Samples) -> Samples:
    """Return the counters that do not change without calls."""
    return {key: value for key, value in counters(samples).items() if value and not key[0].startswith("lockgate_store")}


def workers_of(pid: int) -> list[int]:
    """Return the process ids of a supervisor's workers."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if Path(f"/proc/{child}/comm").read_text() == f"{PROCESS_NAME}\n"]


async def watch(url: str, seen: list[Samples], done: asyncio.Event) -> None:
    """Scrape until `done` is set and check that no counter decreases."""
    while not done.is_set():
        now = counters(await scrape(url))
        if seen:
            assert [key for key, value in seen[-1].items() if now.get(key, -1) < value] == []
        seen.append(now)
        await asyncio.sleep(0.3)


async def published(url: str) -> tuple[Samples, Samples]:
    """Return the samples of the process and of the fleet, once the counts are equal and did not change for longer than reports take."""
    found, fleet = await scrape(url), await scrape(url + "?scope=fleet")
    for _ in range(30):
        before = call_counters(found)
        await asyncio.sleep(1.5)
        found, fleet = await scrape(url), await scrape(url + "?scope=fleet")
        if before == call_counters(found) == call_counters(fleet):
            break
    return found, fleet


def worker_of(client: FaultClient, workers: list[int]) -> int:
    """Return the worker at the other end of a caller's connection: the one that has its socket open."""
    local, remote = (f":{address[1]:04X}" for address in (client.socket.getsockname(), client.socket.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if row[1].endswith(remote) and row[2].endswith(local))
    for worker in workers:
        if f"socket:[{inode}]" in {os.readlink(link) for link in Path(f"/proc/{worker}/fd").iterdir()}:
            return worker
    raise LookupError(inode)


async def hold(client: FaultClient) -> bool:
    """Make one long streamed call and return whether it was complete."""
    async with client:
        body = chat("chat", messages=[{"role": "user", "content": HOLD}], stream=True)
        await client.post(body, [("authorization", f"Bearer {TOKENS['search']}")])
        try:
            return (await client.answer()).complete
        except AssertionError:  # the connection was closed before the head
            return False


def reported_usage(request: Request) -> bool:
    """Return whether the upstream reported the usage of a request to the gateway."""
    return (
        request.finished
        and request.model == "mock"
        and (b'"stream":true' not in request.body or b"include_usage" in request.body)
    )


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_totals_equal_the_upstreams_counts_after_a_worker_was_killed(
    redis: RedisServer, gateway: Callable[..., RunningGateway], figure: Figure
) -> None:
    async with FaultUpstream() as up:
        running = await asyncio.to_thread(gateway, configuration(up.base_url, redis.url), {}, ("--workers", "2"))
        await asyncio.to_thread(running.wait_ready)
        port, url = int(running.url.rsplit(":", 1)[1]), running.admin_url + "/metrics"
        load, seen, done = Load(port, callers=24, calls=CALLS), [], asyncio.Event()
        began = time.monotonic()
        watching = asyncio.create_task(watch(url, seen, done))
        driving = asyncio.create_task(load.run())
        await eventually(lambda: load.counts.begun >= CALLS // 3, 120)
        lost = await kill_one(running, up, load, port)
        counts = await driving
        figure("10,000 calls over two workers", time.monotonic() - began, "s")
        figure("calls lost with the worker", lost, "")
        found, fleet = await published(url)
        done.set()
        await watching
        assert lost > 0
        assert counts.broken == 0
        check(found, up, load, lost)
        assert call_counters(fleet) == call_counters(found)
        figure("scrapes without a decreasing counter", len(seen), "")
        figure("series of a scrape", len(found), "")
    assert running.stderr.count("restarting in") == 1


async def kill_one(running: RunningGateway, up: FaultUpstream, load: Load, port: int) -> int:
    """Kill a worker while it streams; return how many of its calls were lost."""
    load.going.clear()
    await eventually(lambda: load.open == 0)
    before = len(up.requests)
    clients = [await FaultClient.connect(port) for _ in range(HELD)]
    held = [asyncio.create_task(hold(client)) for client in clients]
    await eventually(lambda: sum(request.events > 2 for request in up.requests[before:]) == HELD)
    os.kill(worker_of(clients[0], workers_of(running.pid)), signal.SIGKILL)
    load.epoch += 1
    load.going.set()
    return (await asyncio.gather(*held)).count(False)


def check(found: Samples, up: FaultUpstream, load: Load, lost: int) -> None:
    """Compare a scrape with the counts of the upstream and of the callers."""
    asked = Counter(
        {f"x/{model}": count for model, count in Counter(str(request.model) for request in up.requests).items()}
    )
    sent: Counter[str] = Counter()
    for target, count in total(found, "lockgate_upstream_requests_total", "target").items():
        if not target.startswith("dead/"):
            sent["x/" + target.partition("/")[2]] += count
    assert sent == asked
    counts = load.counts
    statuses = Counter({f"{status // 100}xx": 0 for _, status in counts.answered})
    for (_, status), count in counts.answered.items():
        statuses[f"{status // 100}xx"] += count
    answered = total(found, "lockgate_requests_total", "status")
    assert answered == statuses + Counter({"2xx": HELD - lost, "5xx": lost, "499": counts.left})
    assert total(found, "lockgate_requests_total", code="worker_lost")[""] == lost
    assert sum(answered.values()) == counts.begun + HELD
    assert total(found, "lockgate_request_duration_seconds_count")[""] == counts.begun + HELD - lost
    reported = [request for request in up.requests if reported_usage(request)]
    assert total(found, "lockgate_tokens_total", kind="output", source="reported")[""] == sum(
        request.tokens for request in reported
    )
    assert total(found, "lockgate_tokens_total", kind="prompt", source="reported")[""] == sum(
        request.prompt_tokens for request in reported
    )
    assert total(found, "lockgate_requests_in_flight")[""] == 0

"""A real Prometheus scrapes two gateway workers on a real Redis under mixed traffic, and every query of every panel returns data."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.deploy import tools
from tests.deploy.dashboards import queries
from tests.deploy.prometheus_server import PrometheusServer
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway
from tests.support.load import CALL_KINDS, CallCounts, CallKind, Load, configuration
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
SECONDS = 75.0  # maximum duration of the traffic; every panel must have data by then
ENOUGH = 40.0


class Scene:
    """The running gateway and Prometheus, and the results of the traffic."""

    def __init__(self, gateway: RunningGateway, prometheus: PrometheusServer, counts: CallCounts) -> None:
        self.gateway = gateway
        self.prometheus = prometheus
        self.counts = counts
        self.without: dict[str, str] = {}
        self.seconds = 0.0
        self.scraped = ""


FAILING = CallKind(2, {"model": "failing", "messages": [{"role": "user", "content": "hello"}]})


def with_more(text: str, base_url: str) -> str:
    """Return a configuration with the embedded engine, a failing model and a provider that lists its models, for their panels."""
    models = "models:\n  local: local/smollm2-135m-instruct\n  failing: sick/500\n"
    free = 'prices: { "*": { prompt: 0, output: 0 } }'
    listing = f'  listing: {{ type: openai-compatible, base_url: "{base_url}", discover: true, {free} }}\n'
    return text.replace("providers:\n", f"providers:\n  local: {{}}\n{listing}", 1).replace("models:\n", models, 1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("live")
    redis = RedisServer(folder)
    with ExitStack() as ending:
        ending.callback(redis.kill)
        yield asyncio.run(_staged(folder, redis, ending))


async def _staged(folder: Path, redis: RedisServer, ending: ExitStack) -> Scene:
    """Start the gateway and Prometheus, and run the traffic against an upstream."""
    async with FaultUpstream() as upstream:
        config = folder / "gateway.yaml"
        config.write_text(with_more(configuration(upstream.base_url, redis.url), upstream.base_url))
        gateway = await asyncio.to_thread(RunningGateway, config, folder, None, ("--workers", "2"))
        ending.callback(gateway.stop)
        await asyncio.to_thread(gateway.wait_ready, 120)
        prometheus = await asyncio.to_thread(PrometheusServer, folder, gateway.admin_url)
        ending.callback(prometheus.stop)
        return await _played(gateway, prometheus)


async def _played(gateway: RunningGateway, prometheus: PrometheusServer) -> Scene:
    """Run traffic until every query has data, at most SECONDS, with a reload in between."""
    began = time.monotonic()
    done = False
    load = Load(int(gateway.url.rpartition(":")[2]), callers=8, kinds={**CALL_KINDS, "failing": FAILING})
    running = asyncio.create_task(load.run(lambda: done))
    scene = Scene(gateway, prometheus, load.counts)
    await asyncio.sleep(ENOUGH / 2)
    os.kill(gateway.pid, signal.SIGHUP)
    await asyncio.sleep(ENOUGH / 2)
    while True:
        scene.without = await asyncio.to_thread(without_data, prometheus)
        scene.seconds = time.monotonic() - began
        if not scene.without or scene.seconds > SECONDS:
            break
        await asyncio.sleep(2)
    scene.scraped = await asyncio.to_thread(lambda: httpx.get(f"{gateway.admin_url}/metrics", timeout=30, trust_env=False).text)
    done = True
    await running
    return scene


def without_data(prometheus: PrometheusServer) -> dict[str, str]:
    """Return the queries without numeric data, by location. Queries for a moment cover the last minutes."""
    found = {}
    for where, query in queries():
        if where.endswith(": Reloads") and "changes(" in query:
            now = time.time()
            has = bool(prometheus.get("query_range", query=query, start=str(now - 120), end=str(now), step="5")["result"])
        else:
            has = bool(prometheus.values(query))
        if not has:
            found[where] = query
    return found


def test_every_query_of_every_panel_returns_data(scene: Scene, figure: Figure) -> None:
    figure("queries", len(queries()), "queries")
    figure("until all had data", scene.seconds, "s")
    figure("calls", scene.counts.answers, "calls")
    assert not scene.without, "\n".join(f"{where}: {query}" for where, query in scene.without.items())


def test_traffic_covered_every_kind_of_call(scene: Scene) -> None:
    assert scene.counts.left > 0
    answered = {name for name, _ in scene.counts.answered}
    assert {name for name, kind in CALL_KINDS.items() if not kind.leave and name != "cut"} <= answered
    assert {status // 100 for _, status in scene.counts.answered} == {2, 4, 5}


def test_both_workers_served_calls(scene: Scene) -> None:
    assert scene.prometheus.values("sum(lockgate_workers)") == [2.0]
    assert scene.gateway.process.poll() is None


def test_promtool_accepts_the_scraped_metrics(scene: Scene) -> None:
    done = tools.run(tools.debian("promtool"), "check", "metrics", stdin=scene.scraped)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_promtool_accepts_the_configuration_in_use(scene: Scene) -> None:
    done = tools.run(tools.debian("promtool"), "check", "config", "--lint=all", "--lint-fatal", scene.prometheus.config)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_evaluated_and_recorded(scene: Scene) -> None:
    rules = [rule for group in scene.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    assert len(recorded) > 10
    assert {name for name in recorded if not scene.prometheus.values(name)} == set()


def test_only_expected_alerts_fire(scene: Scene) -> None:
    firing = {alert["labels"]["alertname"] for alert in scene.prometheus.get("alerts")["alerts"] if alert["state"] == "firing"}
    assert firing & {"LockgateDown", "LockgateGone", "LockgateInternalErrors", "LockgateStoreDown", "LockgateLogDrops"} == set()

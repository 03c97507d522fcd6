"""`lockgate top`: what it reads out of /metrics, and what it prints of a gateway that serves, or that is not there."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.commands.top_readings import Frame, Scrape, parse, quantile
from gateway.metrics import Metrics
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.metrics.test_recording import call, metrics
from tests.support.load import SORTS, Load, configuration

ROOT = Path(__file__).parents[2]


def scraped(one: Metrics, at: float) -> Scrape:
    """A scrape as the command gets it."""
    return parse(one.expose().decode(), at)


def test_rates_and_times_are_of_the_interval_and_sums_of_all() -> None:
    one = metrics()
    for _ in range(10):
        ended = call(stream=True)
        ended.first_byte_at = ended.started + 0.9
        one.record(ended, ended.started + 5)
    before = scraped(one, 100.0)
    for number in range(20):
        ended = call(stream=True)
        if number == 19:
            ended.status = 503
        one.record(ended, ended.started + 0.03)
    frame = Frame(before, scraped(one, 110.0))
    (smart,) = frame.model_rows()
    assert (smart.name, smart.requests, smart.rate) == ("smart", 30, 2.0)
    assert smart.errors == pytest.approx(0.05)
    assert smart.first[1] is not None
    assert smart.first[1] <= 0.02
    assert smart.whole[0] is not None
    assert 0.02 <= smart.whole[0] <= 0.04
    assert smart.cost == pytest.approx(30 * 0.0015)
    (team,) = frame.key_rows()
    assert (team.requests, team.tokens) == (30, 30 * 31)
    (quiet,) = Frame(scraped(one, 110.0), scraped(one, 120.0)).model_rows()
    assert (quiet.rate, quiet.requests) == (0, 30)
    assert quiet.whole[0] is not None


def test_a_counter_that_began_anew_has_no_negative_rate() -> None:
    full, empty = metrics(), metrics()
    for _ in range(5):
        full.record(call(), 1.0)
    empty.record(call(), 1.0)
    assert Frame(scraped(full, 0), scraped(empty, 1)).rate("lockgate_requests_total") == 1


def test_quantiles_lie_within_their_bucket() -> None:
    buckets = {0.1: 10.0, 1.0: 90.0, float("inf"): 100.0}
    assert quantile(buckets, 0.05) == pytest.approx(0.05)
    assert quantile(buckets, 0.5) == pytest.approx(0.55)
    assert quantile(buckets, 0.99) == 1.0
    assert quantile({float("inf"): 0.0}, 0.5) is None
    assert quantile({}, 0.5) is None


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command, piped."""
    command = [sys.executable, "-m", "gateway", "top", *args]
    whole = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")} | env
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50, env=whole, check=False)


async def test_one_frame_shows_models_targets_keys_and_limits_without_colour() -> None:
    names = ("json", "stream", "fallback", "tight", "unknown model")
    sorts = {name: dataclasses.replace(SORTS[name], weight=10) for name in names}
    async with FaultUpstream() as up, live(configuration(up.base_url, failures=2)) as gateway:
        load = Load(gateway.port, calls=150, callers=4, sorts=sorts)
        await load.run()
        done = await asyncio.to_thread(run, "--once", "--interval", "0.2", "--admin", gateway.admin_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert lines[0].startswith("lockgate 0.")
    for title in ("models", "targets", "keys", "limits that refused"):
        assert any(line.strip() == title for line in lines), done.stdout
    assert "local engine" not in done.stdout
    (chat,) = [line.split() for line in lines if line.startswith("chat ")]
    assert int(chat[2]) > 40
    assert "ms" in chat
    (sick,) = [line.split() for line in lines if line.startswith("sick/503")]
    assert sick[1] == "cooling"
    assert any(line.startswith("search ") for line in lines)
    assert [line.split()[:2] for line in lines if line.startswith("key  ")][-1:] == [["key", "requests"]]
    assert max(map(len, lines)) <= 140


def test_a_gateway_that_is_not_there_is_one_line() -> None:
    done = run("--once", "--admin", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no gateway answers at http://127.0.0.1:1" in done.stderr


def test_without_rich_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('not here')\n")
    done = run("--once", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == 'lockgate: this view needs the package rich: pip install "lockgate[top]"\n'

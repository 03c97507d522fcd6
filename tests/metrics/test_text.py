"""The Prometheus text format, checked by Prometheus' own linter."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT

import pytest

from gateway.metrics.text import classic
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.support.load import Load, configuration


def test_family_without_samples_still_has_help_and_type() -> None:
    scrape = classic({}).decode()
    assert "# HELP lockgate_retries_total Retries at the same target within a call.\n" in scrape
    assert "# TYPE lockgate_request_duration_seconds histogram\n" in scrape


def test_costs_are_exposed_in_dollars_and_gauges_in_their_unit() -> None:
    snapshot = {"lockgate_cost_usd": {("m", "a/x"): [1_500_000]}, "lockgate_store_up": {(): [1_000_000]}}
    scrape = classic(snapshot).decode()
    assert 'lockgate_cost_usd_total{model="m",target="a/x"} 0.0015\n' in scrape
    assert "lockgate_store_up 1.0\n" in scrape


@pytest.mark.prove
async def test_promtool_accepts_a_scrape_with_every_kind_of_series() -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is in Debian's package prometheus"
    async with FaultUpstream() as up, live(configuration(up.base_url)) as gateway:
        await Load(gateway.port, calls=600).run()
        text = gateway.gateway.metrics.expose()
    check = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    output, _ = await check.communicate(text)
    assert (check.returncode, output) == (0, b"")

"""Prometheus' own linter reads a scrape with every sort of series in it and finds nothing to say."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.metrics.load import Load, configuration


@pytest.mark.prove
async def test_promtool_finds_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is in Debian's package prometheus"
    async with FaultUpstream() as up, live(configuration(up.base_url)) as gateway:
        await Load(gateway.port, calls=600).run()
        text = gateway.gateway.metrics.expose()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=50, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")

"""Prometheus' own linter reads a scrape with every sort of series in it and finds nothing to say."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT

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
    check = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await check.communicate(text)
    assert (check.returncode, said) == (0, b"")

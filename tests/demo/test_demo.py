"""The demo: its configuration and its traffic."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from gateway.config.load import load
from gateway.demo.demo import MODEL, PROVIDERS, Demo, DemoChange
from tests.faults.upstream_server import FaultUpstream


async def test_configuration_names_the_providers(tmp_path: Path) -> None:
    with closing(Demo()) as demo:
        config = load(demo.write(tmp_path), environ={})
        for name, kind in PROVIDERS.items():
            assert config.providers[name].type == kind
            assert config.providers[name].base_url == f"http://127.0.0.1:{demo.providers[name].port}/v1"
        assert MODEL in config.models


async def test_traffic_is_sent_to_the_gateway_until_it_is_stopped(up: FaultUpstream) -> None:
    demo = Demo()
    await demo.start((up.host, up.port))
    demo.apply(DemoChange(traffic=True))
    assert demo.describe()["traffic"] is True
    async with asyncio.timeout(30):
        while not up.requests:  # noqa: ASYNC110 - the server reports no event
            await asyncio.sleep(0.01)
    assert (up.requests[0].path, up.requests[0].json["model"], up.requests[0].json["stream"]) == ("/v1/chat/completions", MODEL, True)
    demo.apply(DemoChange(traffic=False))
    assert demo.describe()["traffic"] is False
    await demo.stop()


async def test_demo_stops_while_calls_run(up: FaultUpstream) -> None:
    up.delay = 30.0
    demo = Demo()
    await demo.start((up.host, up.port))
    demo.apply(DemoChange(traffic=True))
    async with asyncio.timeout(30):
        while not up.requests:  # noqa: ASYNC110 - the server reports no event
            await asyncio.sleep(0.01)
        await demo.stop()

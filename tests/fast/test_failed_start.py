"""Calls whose request cannot be sent because of an error of the gateway itself."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from tests.faults.client import FaultClient, chat
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live

pytestmark = pytest.mark.usefixtures("steps")


async def test_nothing_stays_reserved_at_the_target(up: FaultUpstream, entered: list[FastCall], monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", limits: {{ requests: 9/h, tokens: 100k/h }} }}
models:
  m: {{ targets: up/mock }}
"""
    async with live(text) as gateway, await FaultClient.connect(gateway.port) as client:
        limits = gateway.gateway.generation.limits
        assert limits is not None

        def fail(*_: Any) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(gateway.gateway.generation.pipeline.failover, "enter", fail)
        await client.post(chat())
        assert (await client.answer()).status == 500
        assert len(entered) == 1
        used = await limits.limiter.usage(limits.of_target(entered[0]._route.candidates[0].backend.target))
        assert [each.used for each in used] == [0, 0]
        assert limits.in_flight._open == {}
        assert up.requests == []

"""Which calls enter the fast lane."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from gateway.fast.lane import MAX_BODY_BYTES
from tests.faults.client import ask, chat
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live

MODELS = """
  plain: up/mock
  hedged: { targets: [up/mock, vllm/mock], hedge: 1s }
  fitted: { targets: up/mock, context: { overflow: truncate } }
  mirrored: { targets: up/mock, mirror: { target: up/mock, share: 100% } }
  continued: { targets: vllm/mock, continue_on_cut: true }
"""
LONG = [{"role": "user", "content": "x" * MAX_BODY_BYTES}]


async def enters(entered: list[FastCall], up: FaultUpstream, body: dict[str, Any], headers: tuple[tuple[str, str], ...], top: str) -> bool:
    """Return whether a call entered, and check that it was answered."""
    providers = f'up: {{ type: openai-compatible, base_url: "{up.base_url}" }}\n  vllm: {{ type: vllm, base_url: "{up.base_url}" }}'
    text = f"{top}\nproviders:\n  {providers}\nmodels:{MODELS}"
    async with live(text) as gateway:
        assert (await ask(gateway.port, body, headers)).status == 200
    return bool(entered)


@pytest.mark.parametrize("body", [{}, {"stream": True}, {"temperature": 0.5, "seed": 1, "user": "u"}])
async def test_a_plain_call_enters(entered: list[FastCall], up: FaultUpstream, body: dict[str, Any]) -> None:
    assert await enters(entered, up, chat("plain", **body), (), "")


@pytest.mark.parametrize(
    ("body", "headers", "top"),
    [
        (chat("hedged"), (), ""),
        (chat("fitted"), (), ""),
        (chat("mirrored"), (), ""),
        (chat("continued"), (), ""),
        (chat("plain", stop="x"), (), ""),
        (chat("plain", response_format={"type": "json_object"}), (), ""),
        ({"model": "plain", "messages": LONG}, (), ""),
        (chat("plain"), (("x-gateway-strict", "true"),), ""),
        (chat("plain"), (("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"),), ""),
        (chat("plain"), (), "cors: ['https://app.example']"),
        (chat("plain"), (), "trusted_proxies: [127.0.0.1]"),
    ],
)
async def test_a_call_with_anything_special_takes_the_pipeline(
    entered: list[FastCall], up: FaultUpstream, body: dict[str, Any], headers: tuple[tuple[str, str], ...], top: str
) -> None:
    assert not await enters(entered, up, body, headers, top)

"""A gateway that is built and not started."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config.load import parse
from gateway.config.types import Config
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog

YAML = """
providers:
  up: { type: vllm, base_url: "http://127.0.0.1:1/v1" }
  other: { type: vllm, base_url: "http://127.0.0.1:2/v1", transport: httpx }
models:
  smart: { targets: [up/large, other/small], mirror: { target: up/shadow, share: 10% } }
  "any-*": up/small
"""


def config_of(text: str = YAML) -> Config:
    """Parse a configuration."""
    return parse(text.encode(), "gateway.yaml", environ={})


@pytest.fixture
def new_gateway() -> Callable[..., Gateway]:
    """Return a function that builds a gateway from a YAML text."""

    def build(text: str = YAML) -> Gateway:
        return Gateway(config_of(text), CallLog(2, human=True), lambda line: None)

    return build

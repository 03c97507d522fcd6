"""Hundreds of broken configuration files in a row: none is applied, and each is reported with its line."""

from __future__ import annotations

import random
import re

import pytest

from gateway.config import load as config
from gateway.config.load import ConfigError
from tests.config.test_mutations import PIECES
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import Live, live
from tests.flows.test_reload_flow import OTHER, TOKEN, key

ENVIRON = {"UP_KEY": CREDENTIAL}


def valid_config(up: FaultUpstream) -> str:
    """Return a configuration that uses many kinds of settings."""
    return f"""\
listen: 127.0.0.1:8080
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", timeout: 60s }}
  gpu:
    type: vllm
    base_url: {up.base_url}
    headers: {{ x-team: "${{UP_KEY}}" }}
models:
  m: up/mock
  both:
    targets: [up/mock, {{ gpu/a: 3, gpu/b: 1 }}, m]
    timeout: 30s
    retries: 1
  "*": m
keys:
{key("one", TOKEN, ", models: [m, both], limits: { requests: 600/min, tokens: 200k/min }")}{key("two", OTHER, ", expires: 2099-01-31")}
cors: ["https://app.example"]
max_body: 8MiB
"""


def mutated(data: bytes, random_source: random.Random) -> bytes:
    """Return the data with up to four places removed, doubled, copied or overwritten."""
    for _ in range(random_source.randint(1, 4)):
        start = random_source.randint(0, len(data))
        end = min(len(data), start + random_source.randint(0, 30))
        elsewhere = random_source.randint(0, len(data))
        piece = random_source.choice([*PIECES, data[start:end] * 2, data[elsewhere : elsewhere + 20], b""])
        data = data[:start] + piece + data[end:]
    return data


def is_bad(data: bytes, gateway: Live) -> bool:
    """Return whether the configuration is invalid. Some mutations leave it valid."""
    try:
        config.parse(data, str(gateway.path), environ=ENVIRON)
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize("mutations", [100, pytest.param(500, marks=pytest.mark.prove)])
async def test_p5_no_broken_file_is_applied_and_each_is_reported_with_its_line(mutations: int) -> None:
    async with FaultUpstream() as up, live(valid_config(up), environ=ENVIRON) as gateway:
        before = gateway.gateway.generation
        random_source = random.Random(5)
        broken = [
            data for data in (mutated(valid_config(up).encode(), random_source) for _ in range(3 * mutations)) if is_bad(data, gateway)
        ]
        assert len(broken) >= mutations
        line = re.compile(re.escape(str(gateway.path)) + r":[1-9]\d*:[1-9]\d*: \S.*")
        for data in broken[:mutations]:
            gateway.path.write_bytes(data)
            assert await gateway.reloader.reload() == "failed", data
            assert gateway.reloader.problems
            assert all(line.fullmatch(str(problem)) for problem in gateway.reloader.problems), gateway.reloader.problems
            assert gateway.gateway.generation is before
        assert gateway.reloader.counts == {"applied": 0, "failed": mutations, "unchanged": 0}
        reported = "\n".join(gateway.reports)
        assert "Traceback" not in reported
        assert CREDENTIAL not in reported
        assert len(gateway.reports) == mutations

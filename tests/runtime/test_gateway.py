"""A gateway: an applied configuration, the tokenizer that a new team needs, and connections rejected before a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.config.key import TeamConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.runtime import gateway as module
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog
from gateway.tokens.counter import TokenCounter
from gateway.tokens.encodings import load_tokenizer
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually
from tests.flows.test_replicas_flow import Records
from tests.runtime.conftest import YAML, config_of
from tests.targets.test_discovery import listing

ADMIN = f"admin: {{ key_hash: \"sha256:{64 * chr(97)}\" }}\nauth: keys\n"


async def test_applied_configuration_serves_new_calls_and_keeps_what_is_shared(
    new_gateway: Callable[..., Gateway],
) -> None:
    gateway = new_gateway()
    await gateway.start()
    shared, first = gateway.shared, gateway.generation
    await gateway.apply(config_of(YAML + "retry_budget: 0.5\n"))
    assert (first.number, gateway.generation.number) == (1, 2)
    assert gateway.shared is shared
    assert shared.retry_budget.share == 0.5
    assert gateway.generation.pipeline is not first.pipeline
    await gateway.stop()


async def test_a_tokenizer_is_loaded_when_a_team_with_the_first_limit_on_tokens_is_created(
    new_gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = TokenCounter(load_tokenizer)
    monkeypatch.setattr(module, "SHARED_COUNTER", counter)
    gateway = new_gateway(YAML + ADMIN)
    await gateway.start()
    assert gateway.generation.tokenizers() == set()
    assert await gateway.runtime_teams.add(TeamConfig("search", limits=LimitsConfig(tokens=(Rate(1000, "min"),))))
    tokenizers = gateway.generation.tokenizers()
    assert tokenizers
    await eventually(lambda: all(map(counter.is_loaded, tokenizers)))
    await gateway.stop()


DYNAMIC = """
providers:
  box: { type: vllm, base_url: "http://127.0.0.1:1/v1", discover: true }
  pods: { type: vllm, base_url: "http://pods:8000/v1", replicas: dns }
models: { m: pods/llama }
"""


async def test_a_new_configuration_serves_its_first_call_with_the_known_models_and_replicas(up: FaultUpstream) -> None:
    up.on("/v1/models", listing("a"))
    text = DYNAMIC.replace("http://127.0.0.1:1/v1", up.base_url)
    notified = config_of(text + "notify: { webhook: 'http://127.0.0.1:1/hook' }\n")
    gateway = Gateway(notified, CallLog(2, human=True), lambda line: None, resolver=Records("10.0.0.1"))
    await gateway.start()
    applying = asyncio.create_task(gateway.apply(config_of(text)))
    while not applying.done():  # what a call would find at each step of the event loop
        await asyncio.sleep(0)
        router = gateway.generation.router
        assert (list(router.discovered.models), router.replicas) == (["box/a"], {"pods": ("10.0.0.1:8000",)})
    assert gateway.generation.number == 2
    await gateway.stop()


def test_connections_rejected_before_a_call_are_counted_by_reason(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    gateway.count_edge_refusal("head_timeout")
    assert gateway.metrics.counts["lockgate_edge_refusals"] == {("head_timeout",): 1}

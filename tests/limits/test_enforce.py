"""Limits of models and providers, counted in memory."""

from __future__ import annotations

import pytest

from gateway.config.load import parse
from gateway.errors import GatewayError
from gateway.limits.enforce import Limits
from gateway.metrics.registry import Metrics
from gateway.store.memory import MemoryLimiter
from tests.support.attempts import call_with, target_named

YAML = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1", limits: { requests: 1/h } }
models:
  m: { targets: a/x, limits: { requests: 1/h } }
"""


async def test_the_call_beyond_a_models_limit_is_refused_and_counted() -> None:
    metrics = Metrics(["m"], ["a/x"])
    limits = Limits(parse(YAML, "g.yaml", environ={}), MemoryLimiter(), metrics)
    first, second = call_with(), call_with()
    await limits.admit(first, limits.of_caller(first, "m"), [target_named("a/x")])
    assert first.reservation is not None
    with pytest.raises(GatewayError) as refused:
        await limits.admit(second, limits.of_caller(second, "m"), [target_named("a/x")])
    assert refused.value.status == 429
    counts = metrics.counts["lockgate_limit_decisions"]
    assert counts[("model", "requests", "refused", "memory")] == counts[("model", "requests", "admitted", "memory")] > 0


async def test_the_limit_of_a_provider_makes_the_attempt_fail() -> None:
    limits = Limits(parse(YAML, "g.yaml", environ={}), MemoryLimiter(), Metrics(["m"], ["a/x"]))
    assert limits.has_target_limits
    await limits.admit_target(call_with(), target_named("a/x"))
    failure = await limits.admit_target(call_with(), target_named("a/x"))
    assert getattr(failure, "kind", None) == "rate_limit"
    assert await limits.admit_target(call_with(), target_named("b/y")) is None

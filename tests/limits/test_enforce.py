"""Limits of models and providers, counted in memory."""

from __future__ import annotations

import pytest

from gateway.config.load import parse
from gateway.errors import GatewayError
from gateway.keys.from_config import virtual_keys
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


KEYS = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1" }
models: { m: a/x, n: a/y }
teams: { t: { models: { "*": { limits: { requests: 2/h } } } } }
keys: { k: { hash: "sha256:HASH", team: t, models: { m: { limits: { requests: 1/h } }, n: {} } } }
""".replace(b"HASH", b"0" * 62 + b"1f")


async def test_limits_of_models_apply_to_the_models_that_a_call_asks_for() -> None:
    config = parse(KEYS, "g.yaml", environ={})
    limits = Limits(config, MemoryLimiter(), Metrics(["m"], ["a/x"]))
    (key,) = virtual_keys(config.keys.values(), config.teams).values()
    refused: list[str] = []
    for model in ("m", "m", "n", "n"):
        call = call_with(key=key)
        call.model = model
        try:
            await limits.admit(call, limits.of_caller(call, model), [target_named("a/x")])
        except GatewayError as error:
            refused.append(error.message.partition(":")[0])
    assert refused == [
        "Rate limit reached for the key 'k' and the model 'm'",
        "Rate limit reached for the team 't' and the model '*'",
    ]
    passed = call_with(key=key)
    passed.model = ""
    assert limits.of_caller(passed, "") == ()

"""Backends and label names of one configuration."""

from __future__ import annotations

from collections.abc import Callable

from gateway.runtime.gateway import Gateway
from gateway.runtime.generation import MAX_CACHED_BACKENDS, Generation, label_names
from tests.runtime.conftest import config_of


def test_label_names_are_configured_models_targets_and_provider_types() -> None:
    models, targets, types = label_names(config_of())
    assert models == {"smart"}
    assert targets == {"up/large", "other/small", "up/small", "up/shadow"}
    assert types == {"up": "vllm", "other": "vllm"}


def test_generations_share_latencies_and_not_backends(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    old, new = gateway.generation, Generation(gateway.config, gateway.shared, 2)
    assert old.backend("up", "large") is old.backend("up", "large")
    assert old.backend("up", "large") is not new.backend("up", "large")
    assert old.backend("up", "large").latency is new.backend("up", "large").latency is gateway.latencies["up/large"]


def test_number_of_cached_backends_is_limited(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    for number in range(MAX_CACHED_BACKENDS + 5):
        gateway.generation.backend("up", f"model-{number}")
    assert len(gateway.latencies) == MAX_CACHED_BACKENDS
    last = f"model-{MAX_CACHED_BACKENDS + 4}"
    assert gateway.generation.backend("up", last) is not gateway.generation.backend("up", last)


def test_generation_uses_the_transports_of_its_backends(new_gateway: Callable[..., Gateway]) -> None:
    generation = new_gateway().generation
    transport = generation.backend("other", "small").transport
    assert generation.uses(transport)
    assert not generation.uses(object())

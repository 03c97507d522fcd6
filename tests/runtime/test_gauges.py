"""Gauges that are read at scrape time."""

from __future__ import annotations

from collections.abc import Callable

from gateway.runtime.gateway import Gateway
from gateway.runtime.gauges import register_gauges
from providers.base import Failure
from tests.support.metrics import samples, value


def test_gauges_show_targets_by_state_and_attempts_in_flight(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    register_gauges(gateway.shared, lambda: gateway.generation, gateway.discovery, workers=1)
    target = gateway.health.health_of(gateway.generation.backend("up", "large").target)
    target.start_attempt()
    assert value(gateway.metrics, "lockgate_target_in_flight", target="up/large") == 1
    assert value(gateway.metrics, "lockgate_target_state", target="up/large", state="live") == 1
    assert value(gateway.metrics, "lockgate_target_state", target="up/large", state="cooling") == 0
    assert value(gateway.metrics, "lockgate_target_down", target="up/large") == 0
    assert value(gateway.metrics, "lockgate_workers") == 1


def test_gauge_shows_a_target_that_is_down(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    register_gauges(gateway.shared, lambda: gateway.generation, gateway.discovery, workers=1)
    target = gateway.generation.backend("up", "large").target
    gateway.health.health_of(target).record_failure(target, Failure("auth", "no", 401))
    assert value(gateway.metrics, "lockgate_target_down", target="up/large") == 1


def test_supervisor_of_several_workers_does_not_measure_calls(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    register_gauges(gateway.shared, lambda: gateway.generation, gateway.discovery, workers=2)
    names = {name for name, _ in samples(gateway.metrics)}
    assert "lockgate_build_info" in names
    assert "lockgate_keys_revoked_total" in names
    assert "lockgate_workers" not in names

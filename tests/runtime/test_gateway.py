"""A gateway's start, its configurations and its end."""

from __future__ import annotations

from collections.abc import Callable

from gateway.runtime.gateway import Gateway
from tests.runtime.conftest import YAML, config_of


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


def test_connections_rejected_before_a_call_are_counted_by_reason(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    gateway.count_edge_refusal("head_timeout")
    assert gateway.metrics.counts["lockgate_edge_refusals"] == {("head_timeout",): 1}

"""Gauges and counters that are read at scrape time."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from gateway.targets.cooldown import STATES

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.runtime.generation import Generation
    from gateway.runtime.resources import AnyEngine
    from gateway.runtime.shared import Shared
    from gateway.targets.discovery import Discovery
    from gateway.targets.registry import TargetRegistry

BUILD = (version("lockgate"), platform.python_version())


def register_gauges(shared: Shared, generation: Callable[[], Generation], discovery: Discovery, *, workers: int) -> None:
    """Register the gauges that this process measures.

    `generation` returns the serving generation. A supervisor of several `workers` measures only its version, the
    engines and the revoked keys.
    """
    gauge, native = shared.metrics.gauge, shared.resources.native
    gauge("lockgate_build_info", lambda: {BUILD: 1})
    if shared.resources.sockets is None:
        gauge("lockgate_keys_revoked", lambda: {(): shared.runtime_keys.revoked})
        for name in ("ready", "restarts"):
            gauge(f"lockgate_engine_{name}", partial(_engine_values, generation, name))
    if workers > 1:
        return
    gauge("lockgate_issuer_keys_timestamp_seconds", lambda: shared.issuers.fetch_times(generation().config))
    gauge("lockgate_issuer_key_fetches", lambda: shared.issuers.fetches(generation().config))
    gauge("lockgate_event_loop_lag_seconds", lambda: {(): shared.sweeper.lag})
    gauge("lockgate_log_drops", lambda: {(): shared.log.drops})
    gauge("lockgate_call_record_drops", lambda: {(): shared.log.records.drops if shared.log.records is not None else 0})
    gauge("lockgate_ledger_journal_errors", lambda: {(): shared.ledger.journal_errors})
    gauge("lockgate_workers", lambda: {(): 1})
    for name in ("connects", "reuses", "stale_retries", "poisoned"):
        gauge(f"lockgate_upstream_{name}", partial(_attribute, native.stats, name))
    gauge(
        "lockgate_upstream_connections",
        lambda: {(state,): getattr(native, state) for state in ("in_use", "idle", "waiting")},
    )
    gauge("lockgate_target_state", partial(_target_states, shared.health, shared.metrics))
    gauge("lockgate_target_down", partial(_targets_down, shared.health, shared.metrics))
    for name in ("in_flight", "waiting", "waiting_keys"):
        gauge(f"lockgate_target_{name}", partial(_target_values, shared.health, shared.metrics, name))
    gauge("lockgate_budget_used_ratio", partial(_budget_values, generation, "used"))
    gauge("lockgate_budget_reserved_ratio", partial(_budget_values, generation, "reserved"))
    gauge("lockgate_discovery_up", discovery.states)
    gauge("lockgate_discovered_models", discovery.counts)
    for name in ("running", "waiting"):
        gauge(f"lockgate_engine_{name}", partial(_engine_values, generation, name))


def _attribute(stats: object, name: str) -> dict[tuple[str, ...], float]:
    return {(): float(getattr(stats, name))}


def _budget_values(generation: Callable[[], Generation], share: Literal["used", "reserved"]) -> Mapping[tuple[str, ...], float]:
    limits = generation().limits
    return limits.budget_gauge.values(share) if limits is not None else {}


def _target_states(health: TargetRegistry, metrics: Metrics) -> dict[tuple[str, ...], float]:
    values: dict[tuple[str, ...], float] = {}
    for target in health.all():
        label, current = metrics.target_named(target.name), target.state
        for state in STATES:
            values[label, state] = max(values.get((label, state), 0.0), float(state == current))
    return values


def _targets_down(health: TargetRegistry, metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return 1 for each target that is down, else 0. Targets that share a label count as down if one of them is."""
    values: dict[tuple[str, ...], float] = {}
    for target in health.all():
        label = (metrics.target_named(target.name),)
        values[label] = max(values.get(label, 0.0), float(target.is_down))
    return values


def _target_values(health: TargetRegistry, metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return one number for each target. The numbers of targets that share a label are added up."""
    values: dict[tuple[str, ...], float] = {}
    for target in health.all():
        label = (metrics.target_named(target.name),)
        values[label] = values.get(label, 0.0) + getattr(target, name)
    return values


def _engine_values(generation: Callable[[], Generation], name: str) -> dict[tuple[str, ...], float]:
    return {(provider,): _engine_value(engine, name) for provider, engine in generation().engines.items()}


def _engine_value(engine: AnyEngine, name: str) -> float:
    values = {
        "ready": engine.state == "ready",
        "restarts": engine.restarts,
        "running": engine.gate.running,
        "waiting": engine.gate.waiting,
    }
    return float(values[name])

"""Health of all targets as shown to operators: of one process, or of several workers merged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.config.route import refs
from gateway.config.types import Config
from gateway.targets.cooldown import Cooldown, State
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry

SEVERITY: dict[State, int] = {"live": 0, "probing": 1, "cooling": 2}


class CredentialView(msgspec.Struct):
    """One of several credentials of a target, by its index in the configuration."""

    index: int
    state: State = "live"
    reason: str | None = None
    cooling_until: str | None = None
    cooling_seconds: float | None = None


class TargetView(msgspec.Struct):
    """State of one target. Field names are JSON keys of /admin/targets."""

    target: str
    state: State = "live"
    reason: str | None = None
    cooling_until: str | None = None
    cooling_seconds: float | None = None
    failures_in_a_row: int = 0
    last_failure: str | None = None
    in_flight: int = 0
    waiting: int = 0
    shed: int = 0
    latency_ms: float | None = None
    credentials: list[CredentialView] = []
    waiting_by_key: dict[str, int] = {}
    """The keys with the most waiting calls; "" for calls without a key."""


def target_refs(config: Config) -> list[tuple[str, str]]:
    """Return (provider, model) of every target that the configuration names, without those with `*`."""
    pairs = {
        (ref.provider, ref.model): None
        for model in config.models.values()
        for ref in refs(model.targets)
        if ref.provider is not None and "*" not in ref.model
    }
    return list(pairs)


def known_views(registry: TargetRegistry) -> list[TargetView]:
    """Return the targets that the registry knows: those that were called or probed, or are in a cooldown of another process."""
    return [target_view(health, registry.clock()) for health in registry.all()]


def target_views(registry: TargetRegistry, config: Config) -> list[TargetView]:
    """Return the targets of the configuration and all others that the registry knows, such as those that callers named."""
    views = {view.target: view for view in known_views(registry)}
    for provider, name in target_refs(config):
        views.setdefault(f"{provider}/{name}", TargetView(f"{provider}/{name}"))
    return sorted(views.values(), key=lambda view: view.target)


def target_view(health: TargetHealth, now: float) -> TargetView:
    """Return the current state of one target."""
    state = health.state
    until, seconds = _end_of(health.cooldown, now)
    return TargetView(
        target=health.name,
        state=state,
        reason=health.cooldown.reason if state != "live" else None,
        cooling_until=until,
        cooling_seconds=seconds,
        failures_in_a_row=health.failures,
        last_failure=health.last_failure,
        in_flight=health.in_flight,
        waiting=health.waiting,
        waiting_by_key=health.bulkhead.queue.waiting_by_owner() if health.bulkhead is not None else {},
        shed=health.shed,
        latency_ms=round(health.latency * 1000, 1) if health.latency else None,
        credentials=[_credential(index, cooldown, now) for index, cooldown in enumerate(health.credential_cooldowns())],
    )


def _credential(index: int, cooldown: Cooldown, now: float) -> CredentialView:
    if cooldown.until <= now:
        return CredentialView(index)
    return CredentialView(index, "cooling", cooldown.reason, *_end_of(cooldown, now))


def _end_of(cooldown: Cooldown, now: float) -> tuple[str | None, float | None]:
    """Return the end of a cooldown as an ISO time and as seconds from now, or None for both."""
    seconds = cooldown.until - now
    if seconds <= 0:
        return None, None
    end = datetime.fromtimestamp(time.time() + seconds, UTC)
    return end.isoformat(timespec="seconds"), round(seconds, 1)


def merge_views(processes: Iterable[Iterable[TargetView]]) -> list[TargetView]:
    """Merge the targets of several processes: keep the worst state and cooldown, and add the numbers of calls."""
    merged: dict[str, TargetView] = {}
    for process in processes:
        for view in process:
            known = merged.get(view.target)
            merged[view.target] = view if known is None else _merge_two(known, view)
    return sorted(merged.values(), key=lambda view: view.target)


def _merge_two(one: TargetView, other: TargetView) -> TargetView:
    best, worst = sorted((one, other), key=lambda view: (SEVERITY[view.state], view.cooling_seconds or 0.0))
    times = [view.latency_ms for view in (one, other) if view.latency_ms is not None]
    return TargetView(
        target=one.target,
        state=worst.state,
        reason=worst.reason,
        cooling_until=worst.cooling_until,
        cooling_seconds=worst.cooling_seconds,
        failures_in_a_row=max(one.failures_in_a_row, other.failures_in_a_row),
        last_failure=worst.last_failure or best.last_failure,
        in_flight=one.in_flight + other.in_flight,
        waiting=one.waiting + other.waiting,
        waiting_by_key=dict(Counter(one.waiting_by_key) + Counter(other.waiting_by_key)),
        shed=one.shed + other.shed,
        latency_ms=round(sum(times) / len(times), 1) if times else None,
        credentials=worst.credentials or best.credentials,
    )


def write_views(path: Path, views: list[TargetView]) -> None:
    """Write a worker's targets for its supervisor."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(views))
    temporary.replace(path)


def read_views(path: Path) -> list[TargetView]:
    """Read a worker's targets. Return an empty list if the worker has written none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[TargetView])
    except (OSError, msgspec.DecodeError):
        return []

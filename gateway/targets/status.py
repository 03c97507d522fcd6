"""How each target fares, for people and programs to read: one process's view, and that of several workers as one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.config.route import refs
from gateway.config.types import Config
from gateway.targets.cooldown import Cooldown, State
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry

ORDER: dict[State, int] = {"live": 0, "probing": 1, "cooling": 2}


class CredentialView(msgspec.Struct):
    """One of several credentials of a target, by its place in the file."""

    index: int
    state: State = "live"
    reason: str | None = None
    cooling_until: str | None = None
    cooling_seconds: float | None = None


class TargetView(msgspec.Struct):
    """How one target stands."""

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


def target_refs(config: Config) -> list[tuple[str, str]]:
    """Provider and model there of every target that the configuration names."""
    found = {(ref.provider, ref.model): None for one in config.models.values() for ref in refs(one.targets) if ref.provider is not None}
    return list(found)


def target_views(health: TargetRegistry, config: Config) -> list[TargetView]:
    """Every target of the configuration, and those that callers named themselves."""
    found = {one.name: target_view(one, health.clock()) for one in health.all()}
    for provider, name in target_refs(config):
        found.setdefault(f"{provider}/{name}", TargetView(f"{provider}/{name}"))
    return sorted(found.values(), key=lambda one: one.target)


def target_view(one: TargetHealth, now: float) -> TargetView:
    """One target at this moment."""
    state = one.state
    until, seconds = _when(one.cooldown, now)
    return TargetView(
        target=one.name,
        state=state,
        reason=one.cooldown.reason if state != "live" else None,
        cooling_until=until,
        cooling_seconds=seconds,
        failures_in_a_row=one.failures,
        last_failure=one.last_failure,
        in_flight=one.in_flight,
        waiting=one.waiting,
        shed=one.shed,
        latency_ms=round(one.latency * 1000, 1) if one.latency else None,
        credentials=[_credential(index, cooling, now) for index, cooling in enumerate(one.credential_cooldowns())],
    )


def _credential(index: int, cooling: Cooldown, now: float) -> CredentialView:
    if cooling.until <= now:
        return CredentialView(index)
    return CredentialView(index, "cooling", cooling.reason, *_when(cooling, now))


def _when(cooling: Cooldown, now: float) -> tuple[str | None, float | None]:
    """Until when, as people and as programs read it; None when it does not cool."""
    left = cooling.until - now
    if left <= 0:
        return None, None
    return datetime.fromtimestamp(time.time() + left, UTC).isoformat(timespec="seconds"), round(left, 1)


def merge_views(processes: Iterable[Iterable[TargetView]]) -> list[TargetView]:
    """The targets of several processes as one list: numbers are sums, the state and the time are the worst of them."""
    total: dict[str, TargetView] = {}
    for views_ in processes:
        for one in views_:
            known = total.get(one.target)
            total[one.target] = one if known is None else _together(known, one)
    return sorted(total.values(), key=lambda one: one.target)


def _together(one: TargetView, other: TargetView) -> TargetView:
    best, worst = sorted((one, other), key=lambda view: (ORDER[view.state], view.cooling_seconds or 0.0))
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
        shed=one.shed + other.shed,
        latency_ms=round(sum(times) / len(times), 1) if times else None,
        credentials=worst.credentials or best.credentials,
    )


def write_views(path: Path, found: list[TargetView]) -> None:
    """What a worker shows its supervisor."""
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(found))
    new.replace(path)


def read_views(path: Path) -> list[TargetView]:
    """What a worker showed last; nothing when it has not begun."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[TargetView])
    except (OSError, msgspec.DecodeError):
        return []

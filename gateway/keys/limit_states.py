"""The limits of a key or team as JSON: what is used of each, what remains, and when it is reset."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from gateway.config.key import KeyConfig, TeamConfig
from gateway.store.from_config import limits_in, model_limits_in
from gateway.store.limit import NANO_PER_USD, US_PER_S, Limit, LimitUsage, seconds_until


def limits_of_entry(entry: KeyConfig | TeamConfig) -> tuple[Limit, ...]:
    """Return all limits that an entry sets, including those for single models."""
    owner = f"{'key' if isinstance(entry, KeyConfig) else 'team'}:{entry.name}"
    models = model_limits_in(entry, owner)
    return (*limits_in(entry.limits, owner), *(limit for _, limits in models for limit in limits))


def limit_states(usages: Iterable[LimitUsage]) -> list[dict[str, Any]]:
    """Return the states of limits as JSON values. Amounts of `spend` are in dollars."""
    now = time.time_ns() // 1000
    return [_state(usage, now) for usage in usages]


def _state(usage: LimitUsage, now: int) -> dict[str, Any]:
    limit, reserved = usage.limit, usage.reserved or 0
    state: dict[str, Any] = {"of": limit.owner.partition(":")[0], "limit": str(limit), "kind": limit.kind}
    if limit.window:
        state["window"] = limit.window
    if limit.model:
        state["model"] = limit.model
    state |= {"amount": _amount(limit, limit.amount), "used": _amount(limit, usage.used - reserved)}
    if limit.kind == "spend":
        state["reserved"] = _amount(limit, reserved)
    state["remaining"] = _amount(limit, usage.remaining)
    state["reset_at"] = _reset_at(usage, now)
    return state


def _amount(limit: Limit, amount: int) -> int | float:
    return amount / NANO_PER_USD if limit.kind == "spend" else amount


def _reset_at(usage: LimitUsage, now: int) -> str | None:
    """Return when the full amount is available again: for a budget the end of its period, else None if nothing is used."""
    limit, wait_s = usage.limit, usage.reset_s
    if limit.kind == "spend":
        wait_s = seconds_until(limit.slot_expiry(limit.slot_at(now)), now)
    if not wait_s or math.isinf(wait_s):
        return None
    at = datetime.fromtimestamp(math.ceil(now / US_PER_S + wait_s), UTC)
    return at.isoformat().replace("+00:00", "Z")

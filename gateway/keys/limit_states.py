"""The limits of a key or team as JSON: the used and the remaining amount of each, and the time of its reset."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from gateway.config.key import KeyConfig, TeamConfig
from gateway.store.from_config import limits_in, model_limits_in
from gateway.store.limit import NANO_PER_USD, US_PER_S, Limit, LimitUsage, seconds_until

UNITS = {"requests": "requests", "concurrent": "calls", "spend": "USD"}
"""The units of kinds that do not count tokens."""


def limits_of_entry(entry: KeyConfig | TeamConfig) -> tuple[Limit, ...]:
    """Return the limits that an entry sets, including those for single models, but not those for each end user."""
    owner = f"{'key' if isinstance(entry, KeyConfig) else 'team'}:{entry.name}"
    models = model_limits_in(entry, owner)
    return (*limits_in(entry.limits, owner), *(limit for _, limits in models for limit in limits))


def limit_states(usages: Iterable[LimitUsage]) -> list[dict[str, Any]]:
    """Return the states of limits as JSON values, with the spend of budgets and the time of the reset."""
    now = time.time_ns() // 1000
    return [_state(usage, now) for usage in usages]


def _state(usage: LimitUsage, now: int) -> dict[str, Any]:
    state = usage_json(usage)
    if usage.limit.kind == "spend":
        state["spent"] = (usage.used - (usage.reserved or 0)) / NANO_PER_USD
    return {**state, "reset_at": _reset_at(usage, now)}


def usage_json(usage: LimitUsage) -> dict[str, Any]:
    """Return a limit and its usage. Money is in USD, and `reset_seconds` is null for a budget whose period is `total`."""
    limit = usage.limit
    owner, _, name = limit.owner.partition(":")

    def amount(number: int) -> int | float:
        return number / NANO_PER_USD if limit.kind == "spend" else number

    return {
        "owner": owner,
        "name": name,
        "model": limit.model or None,
        "kind": limit.kind,
        "window": limit.window or None,
        "timezone": limit.timezone if limit.kind == "spend" else None,
        "unit": UNITS.get(limit.kind, "tokens"),
        "limit": amount(limit.amount),
        "used": amount(usage.used),
        "reserved": None if usage.reserved is None else amount(usage.reserved),
        "remaining": amount(usage.remaining),
        "reset_seconds": None if math.isinf(usage.reset_s) else round(usage.reset_s, 3),
    }


def _reset_at(usage: LimitUsage, now: int) -> str | None:
    """Return the time at which the full amount is available again: for a budget, the end of its period.

    Return None for a budget that is never reset, and for another limit if nothing is used.
    """
    limit, wait_s = usage.limit, usage.reset_s
    if limit.kind == "spend":
        wait_s = seconds_until(limit.slot_expiry(limit.slot_at(now)), now)
    if not wait_s or math.isinf(wait_s):
        return None
    at = datetime.fromtimestamp(math.ceil(now / US_PER_S + wait_s), UTC)
    return at.isoformat().replace("+00:00", "Z")

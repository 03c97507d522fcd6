"""The JSON bodies of notifications, which docs/notifications.md describes."""

from __future__ import annotations

import math
import os
import socket
import time
from datetime import UTC, datetime
from typing import Literal

import msgspec

from gateway.config.notify import Event
from gateway.store.limit import NANO_PER_USD, Limit, LimitUsage

VERSION = 1
"""Version of the body. Fields may be added without a new version, but a field keeps its meaning within a version."""


class BudgetBody(msgspec.Struct, omit_defaults=True):
    """The budget of an event. Amounts are in US dollars, and shares are 1 for the whole budget."""

    owner: str
    name: str
    period: str
    limit_usd: float
    model: str | None = None
    time_zone: str | None = None
    spent_usd: float | None = None
    share: float | None = None
    threshold: float | None = None
    resets_at: str | None = None


class TargetBody(msgspec.Struct, omit_defaults=True):
    """The target of an event. `seconds` is the time for which the target has been down or, after a recovery, was down."""

    name: str
    seconds: int
    reason: str | None = None
    last_failure: str | None = None


class Notification(msgspec.Struct, omit_defaults=True):
    """One notification. `text` describes the event for chat programs."""

    event: Event | Literal["test"]
    text: str
    version: int = msgspec.field(default_factory=lambda: VERSION)
    id: str = msgspec.field(default_factory=lambda: f"msg_{os.urandom(12).hex()}")
    time: str = msgspec.field(default_factory=lambda: moment_text(time.time()))
    host: str = msgspec.field(default_factory=socket.gethostname)
    budget: BudgetBody | None = None
    target: TargetBody | None = None


def moment_text(seconds: float) -> str:
    """Return a time in seconds since 1970 as text in UTC, such as `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def spent_share(usage: LimitUsage) -> float:
    """Return the share of a budget that settled calls have spent."""
    return (usage.used - (usage.reserved or 0)) / usage.limit.amount


def budget_reached(usage: LimitUsage, threshold: float, now: float) -> Notification:
    """Return the notification that a budget has reached a threshold. `now` is in seconds since 1970."""
    limit, spent = usage.limit, usage.used - (usage.reserved or 0)
    body = _budget(limit)
    body.spent_usd, body.share, body.threshold = spent / NANO_PER_USD, round(spent_share(usage), 4), threshold
    body.resets_at = moment_text(now + usage.reset_s) if usage.reset_s < math.inf else None
    text = f"{_percent(threshold)} of the budget of {_owner(limit)} is spent: {_dollars(spent)} of {limit}."
    return Notification("budget", text, budget=body)


def budget_refused(limit: Limit) -> Notification:
    """Return the notification that a call was refused because the rest of a budget does not cover it."""
    text = f"A call was refused because the rest of the budget of {_owner(limit)} ({limit}) does not cover it."
    return Notification("budget_refused", text, budget=_budget(limit))


def target_down(name: str, seconds: float, reason: str | None, last_failure: str | None) -> Notification:
    """Return the notification that a target has been down for `seconds`."""
    why = f" ({reason}: {last_failure})" if reason and last_failure and reason != last_failure else f" ({reason or last_failure})"
    text = f"The target {name} has been down for {seconds:.0f} s{why if reason or last_failure else ''}."
    return Notification("target_down", text, target=TargetBody(name, round(seconds), reason, last_failure))


def target_recovered(name: str, seconds: float) -> Notification:
    """Return the notification that a target answers again after `seconds`."""
    text = f"The target {name} answers again. It was down for {seconds:.0f} s."
    return Notification("target_recovered", text, target=TargetBody(name, round(seconds)))


def trial() -> Notification:
    """Return the notification that `lockgate notify test` sends."""
    return Notification("test", "This is a test notification of Lockgate.")


def _budget(limit: Limit) -> BudgetBody:
    owner, _, name = limit.owner.partition(":")
    zone = None if limit.window == "total" else limit.timezone
    return BudgetBody(owner, name, limit.window, limit.amount / NANO_PER_USD, limit.model or None, zone)


def _owner(limit: Limit) -> str:
    owner, _, name = limit.owner.partition(":")
    return f"{owner} {name} for {limit.model}" if limit.model else f"{owner} {name}"


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _dollars(amount: int) -> str:
    return f"{amount / NANO_PER_USD:.2f} USD" if amount >= NANO_PER_USD // 100 else f"{amount / NANO_PER_USD:g} USD"

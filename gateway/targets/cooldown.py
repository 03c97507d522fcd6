"""A cooldown of a target or of one of its credentials: its reason and its end. The reason determines the length."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from gateway.config.provider import CooldownConfig
from providers.base import Failure, Target

State = Literal["live", "cooling", "probing"]
STATES: tuple[State, ...] = ("live", "cooling", "probing")
Reason = Literal["failures", "rate_limit", "overloaded", "quota", "auth", "model"]
RATE_LIMIT_COOLDOWN_S = 1.0
"""Cooldown after a 429 without Retry-After. It doubles with each further 429 in a row, up to the configured time."""
QUOTA_COOLDOWN_S = 300.0
"""Cooldown after a response that reports a used-up quota or credit without the time of its renewal."""
AUTH_COOLDOWN_S = 600.0
"""Cooldown after a credential was refused. A reload ends it."""
MODEL_COOLDOWN_S = 60.0
"""Cooldown after a response that reports that the upstream does not have the model. A reload ends it."""
MAX_FINGERPRINTS = 10_000
"""Maximum number of cached credential fingerprints."""

SLOW_FAILURES = frozenset({"connect_timeout", "tls_timeout", "header_timeout", "timeout", "ttft_timeout", "stalled"})
"""Failures that always count as slow."""
SLOW_FAILURE_S = 1.0
"""Time after which any failure counts as slow."""


def is_slow_failure(failure: Failure, seconds: float) -> bool:
    """Return whether a failure made its call wait long, so further calls would probably wait as well."""
    return failure.kind in SLOW_FAILURES or seconds > SLOW_FAILURE_S


class Cooldown(msgspec.Struct):
    """Start, end and reason of a cooldown, on the process's clock. The reason is None before the first start and after `end`."""

    until: float = 0.0
    since: float = 0.0
    reason: Reason | None = None

    def start(self, now: float, seconds: float, reason: Reason) -> bool:
        """Cool down for `seconds` from now, unless the cooldown in effect lasts at least as long. Return whether the end changed."""
        if now + seconds <= self.until:
            return False
        self.until, self.since, self.reason = now + seconds, now, reason
        return True

    def end(self) -> None:
        """End the cooldown."""
        self.until, self.reason = 0.0, None


def seconds_after_failures(settings: CooldownConfig, ejections: int, stated: float | None) -> float:
    """Return the time for which a failing target is skipped: longer after each period of failures, up to the configured maximum.

    `ejections` counts these periods. `stated` is the time that the upstream asks for; if given, it is the minimum.
    """
    return min(max(settings.time * ejections, stated or 0.0), settings.max)


def seconds_after_rate_limits(settings: CooldownConfig, in_a_row: int, stated: float | None) -> float:
    """Return the time for which a credential is skipped after a 429: longer for each further one in a row, at least `stated` seconds."""
    default = min(RATE_LIMIT_COOLDOWN_S * 2.0 ** min(in_a_row - 1, 20), settings.time)
    return max(default, stated or 0.0)


def fingerprint(target: Target) -> str:
    """Return the name of a target's credential in the store: a short hash that does not reveal it."""
    known = _fingerprints.get(target)
    if known is None:
        known = hashlib.sha256(b"lockgate:" + (target.credential or "").encode()).hexdigest()[:8]
        if len(_fingerprints) >= MAX_FINGERPRINTS:
            _fingerprints.clear()
        _fingerprints[target] = known
    return known


_fingerprints: dict[Target, str] = {}

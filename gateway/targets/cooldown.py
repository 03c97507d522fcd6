"""Why a target, or one of its credentials, is left alone for a while, and until when."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from providers.base import Failure, Target

State = Literal["live", "cooling", "probing"]
STATES: tuple[State, ...] = ("live", "cooling", "probing")
Reason = Literal["failures", "rate_limit", "overloaded", "quota", "auth"]
MOST = 10_000
"""Credentials whose fingerprints are kept ready."""


SLOW = frozenset({"connect_timeout", "tls_timeout", "header_timeout", "timeout", "ttft_timeout", "stalled"})
"""Failures that take their time."""
LONG = 1.0
"""Seconds after which any failure has taken its time."""


def is_slow_failure(failure: Failure, seconds: float) -> bool:
    """Whether a failure let its call wait for nothing, and would others."""
    return failure.kind in SLOW or seconds > LONG


class Cooldown(msgspec.Struct):
    """Why something is left alone, since when and until when, on the process's clock."""

    until: float = 0.0
    since: float = 0.0
    reason: Reason | None = None

    def start(self, now: float, seconds: float, reason: Reason) -> bool:
        """Cool for `seconds` from now on, unless it is longer already; whether this began or extended it."""
        if now + seconds <= self.until:
            return False
        self.until, self.since, self.reason = now + seconds, now, reason
        return True

    def end(self) -> None:
        """It is over."""
        self.until, self.reason = 0.0, None


def fingerprint(target: Target) -> str:
    """A credential's name in the store: no part of it, and too short to find it by."""
    known = _fingerprints.get(target)
    if known is None:
        known = hashlib.sha256(b"lockgate:" + (target.credential or "").encode()).hexdigest()[:8]
        if len(_fingerprints) >= MOST:
            _fingerprints.clear()
        _fingerprints[target] = known
    return known


_fingerprints: dict[Target, str] = {}
